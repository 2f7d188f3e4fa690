"""Masks: greys are weights, masks with the levels 0 and 1 are supported, images are rejected."""

import numpy as np
import pytest
from PIL import Image

from images import make
from sfumato.api.finish import inside
from sfumato.errors import BadInput
from sfumato.images import Mask, read_mask, transparent_parts

SIZE = (17, 13)
LEVELS = np.arange(13 * 17, dtype=np.uint8).reshape(13, 17) + np.uint8(34)
REGION = LEVELS % 3 == 0


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "BMP"])
def test_greys_are_weights_relative_to_white(file_format):
    mask = read_mask(make.encoded(LEVELS, file_format), SIZE)
    np.testing.assert_array_equal(np.rint(mask.weights.astype(np.float64) * 255), LEVELS)
    assert mask.weights.dtype == np.float32
    assert "grey" in mask.note


def test_inside_returns_the_weights_of_read_mask(tmp_path):
    Image.fromarray(REGION.astype(np.uint8)).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(inside(tmp_path / "mask.png", SIZE), REGION)
    Image.fromarray(LEVELS).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(inside(tmp_path / "grey.png", SIZE), read_mask(LEVELS, SIZE).weights)


def test_16_bit_and_float_masks_match_8_bit_masks():
    sixteen = LEVELS.astype(np.uint16) * 257
    for image in (Image.fromarray(sixteen), Image.fromarray(LEVELS.astype(np.float32) / 255)):
        np.testing.assert_array_equal(read_mask(image, SIZE).weights, read_mask(LEVELS, SIZE).weights)


def test_transparent_parts_are_black():
    white = np.full((13, 17, 4), 255, dtype=np.uint8)
    white[..., 3] = LEVELS
    np.testing.assert_array_equal(read_mask(white, SIZE).weights, read_mask(LEVELS, SIZE).weights)
    white[..., :3] = LEVELS[..., None]
    expected = np.rint(LEVELS.astype(np.float64) ** 2 / 255)
    np.testing.assert_array_equal(np.rint(read_mask(white, SIZE).weights.astype(np.float64) * 255), expected)


@pytest.mark.parametrize(
    ("depth", "bright"),
    [
        *((depth, bright) for depth in ("PNG of 8 bits", "array") for bright in (1, 255)),
        *((depth, bright) for depth in ("PNG of 16 bits", "TIFF of 16 bits") for bright in (1, 2, 255, 257)),
        ("bool", 1),
    ],
)
def test_two_level_mask_is_binary_for_any_white_level(bright, depth):
    eight = depth in ("PNG of 8 bits", "array", "bool")
    levels = (REGION * bright).astype(np.uint8 if eight else np.uint16)
    files = {"array": levels, "bool": REGION}
    source = files.get(depth)
    if source is None:
        source = make.encoded(Image.fromarray(levels), depth[:4].strip())
    mask = read_mask(source, SIZE)
    np.testing.assert_array_equal(mask.weights, REGION)
    dark = depth != "bool" and not (eight and bright == 255)
    assert (f"levels are 0 and {bright} of" in mask.note) == dark


def test_mask_of_level_one_is_white_everywhere():
    np.testing.assert_array_equal(read_mask(np.ones((13, 17), np.uint8), SIZE).weights, np.ones((13, 17)))


@pytest.mark.parametrize(
    ("levels", "found"),
    [
        ((LEVELS % 4).astype(np.uint8), "3 of 255.*Multiply its levels by 85"),
        (LEVELS.astype(np.uint16), "254 of 65535.*Multiply its levels by 258"),
        (np.where(REGION, 20, 0).astype(np.uint8), "20 of 255"),
    ],
)
def test_nearly_black_mask_is_rejected_with_its_brightest_level(levels, found):
    with pytest.raises(BadInput, match=f"brightest level is {found}"):
        read_mask(make.encoded(Image.fromarray(levels), "PNG"), SIZE)


def test_a_mask_without_white_is_noted():
    assert "90 of 255: the edit is mixed in by at most 35 %" in read_mask(REGION.astype(np.uint8) * 90, SIZE).note
    assert read_mask(REGION.astype(np.uint8) * 255, SIZE).note == ""


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP"])
def test_colour_image_is_rejected(tmp_path, file_format):
    path = tmp_path / f"beach.{file_format.lower()}"
    path.write_bytes(make.encoded(make.smooth(), file_format))
    with pytest.raises(BadInput, match=r"beach\.\w+ is an image in colour, not a mask: .* white where"):
        read_mask(path, (64, 48))


def test_red_mask_and_class_palette_are_rejected():
    red = np.zeros((13, 17, 3), np.uint8)
    red[REGION, 0] = 255
    classes = Image.fromarray(REGION.astype(np.uint8))
    classes.putpalette([0, 0, 0, 128, 0, 0])
    for image in (Image.fromarray(red), classes):
        with pytest.raises(BadInput, match="in colour, not a mask"):
            read_mask(image, SIZE)


def test_image_with_transparency_requires_transparent_parts(tmp_path):
    pixels = make.noise(channels=4)
    pixels[..., 3] = np.where(REGION, 0, 255)
    path = tmp_path / "rubbed.png"
    path.write_bytes(make.encoded(pixels, "PNG"))
    with pytest.raises(BadInput, match=r"rubbed\.png is an image with transparent parts.* --mask-transparent"):
        read_mask(path, SIZE)
    mask = read_mask(transparent_parts(path), SIZE)
    np.testing.assert_array_equal(mask.weights, REGION)
    assert mask.name == str(path)
    with pytest.raises(BadInput, match="no transparent parts"):
        transparent_parts(make.noise())


def test_slightly_tinted_mask_is_accepted():
    warm = np.where(REGION[..., None], np.array([255, 248, 235], np.uint8), np.uint8(0))
    assert (read_mask(warm, SIZE).weights[REGION] > 0.95).all()


def test_black_and_white_are_exact_after_jpeg_compression():
    radius = np.hypot(*(np.mgrid[0:64, 0:64] - 31.5))
    mask = read_mask(make.encoded((radius < 20).astype(np.uint8) * 255, "JPEG", quality=90), (64, 64))
    assert (mask.weights[radius < 12] == 1).all()
    assert (mask.weights[radius > 28] == 0).all()


def test_mask_of_another_size_is_rejected(tmp_path):
    path = tmp_path / "mask.png"
    path.write_bytes(make.encoded(make.noise(13, 17, 1), "PNG"))
    for source in (path, read_mask(path, SIZE)):
        with pytest.raises(BadInput, match=r"mask\.png is 17 x 13 .* 13 x 17"):
            read_mask(source, (13, 17))


def test_mask_hash_is_independent_of_the_file_format():
    hashes = {read_mask(make.encoded(LEVELS, each), SIZE).sha256 for each in ("PNG", "BMP", "TIFF")}
    assert hashes == {read_mask(LEVELS, SIZE).sha256}
    assert read_mask(LEVELS.T.copy(), SIZE[::-1]).sha256 not in hashes
    assert isinstance(read_mask(LEVELS, SIZE), Mask)
