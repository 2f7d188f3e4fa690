"""Unusual but valid files are read as an image viewer shows them, with a note on conversions."""

import io
import os
import struct

import numpy as np
import pytest
from PIL import Image

from images import make
from sfumato.errors import BadInput
from sfumato.images import read_image, read_mask


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_orientation_is_applied_to_images_and_masks(tmp_path, orientation, file_format):
    stored = np.kron(make.noise(3, 5), np.ones((8, 8, 1), dtype=np.uint8))
    path = tmp_path / f"turned.{file_format.lower()}"
    options = {"lossless": True} if file_format == "WEBP" else {}
    options |= {"quality": 100, "subsampling": 0} if file_format == "JPEG" else {}
    path.write_bytes(make.encoded(stored, file_format, exif=make.exif(orientation), **options))
    expected = make.UPRIGHT[orientation](stored)
    loaded = read_image(path)
    assert loaded.size == (expected.shape[1], expected.shape[0])
    tolerance = 6 if file_format == "JPEG" else 0
    assert np.abs(loaded.rgb.astype(int) - expected).max() <= tolerance

    black_and_white = (stored[..., :1] > 127).repeat(3, axis=-1).astype(np.uint8) * 255
    path.write_bytes(make.encoded(black_and_white, file_format, exif=make.exif(orientation), **options))
    expected = make.UPRIGHT[orientation](black_and_white)[..., 0] / 255
    np.testing.assert_array_equal(read_mask(path, loaded.size).weights, expected)


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_invalid_orientation_is_ignored(value):
    pixels = make.noise()
    np.testing.assert_array_equal(read_image(make.encoded(pixels, "PNG", exif=make.exif(value))).rgb, pixels)


@pytest.mark.parametrize(
    "block", [b"", b"Exif\0\0", b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"\xff" * 99]
)
def test_invalid_exif_block_is_ignored(block):
    pixels = make.noise()
    data = make.encoded(pixels, "PNG")
    data = data[:33] + make.chunk(b"eXIf", block) + data[33:]
    np.testing.assert_array_equal(read_image(data).rgb, pixels)


@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "TIFF", "BMP"])
def test_plain_images_are_read_bit_for_bit(tmp_path, file_format):
    pixels = make.noise()
    path = tmp_path / "image.dat"  # the format is detected from the content, not from the extension
    path.write_bytes(make.encoded(pixels, file_format, **({"lossless": True} if file_format == "WEBP" else {})))
    loaded = read_image(path)
    np.testing.assert_array_equal(loaded.rgb, pixels)
    assert (loaded.alpha, loaded.icc, loaded.note, loaded.mode) == (None, None, "", "RGB")
    assert loaded.name == str(path)


def test_alpha_is_composited_on_the_background():
    pixels = make.noise(channels=4)
    pixels[0, :5, 3] = 0
    pixels[1, :5, 3] = 255
    loaded = read_image(make.encoded(pixels, "PNG"), background=(10, 200, 30))
    share = pixels[..., 3:] / 255
    expected = share * pixels[..., :3] + (1 - share) * np.array([10, 200, 30])
    assert np.abs(loaded.rgb - expected).max() <= 0.5 + 1e-9
    assert (loaded.rgb[0, :5] == (10, 200, 30)).all()
    np.testing.assert_array_equal(loaded.rgb[1, :5], pixels[1, :5, :3])
    np.testing.assert_array_equal(loaded.alpha, pixels[..., 3])


def test_grey_with_alpha():
    grey = make.noise(channels=2)
    image = Image.frombytes("LA", (17, 13), grey.tobytes())
    loaded = read_image(make.encoded(image, "PNG"))
    np.testing.assert_array_equal(loaded.alpha, grey[..., 1])
    np.testing.assert_array_equal(loaded.native, grey[..., :1].repeat(3, axis=-1))
    assert loaded.grey


@pytest.mark.parametrize("transparency", [3, bytes([255, 128, 0, 255])])
def test_a_palette_with_transparency(transparency):
    rng = np.random.default_rng(0)
    index, palette = rng.integers(0, 4, (9, 7), dtype=np.uint8), rng.integers(0, 256, (4, 3), dtype=np.uint8)
    image = Image.fromarray(index).convert("P")
    image.putdata(index.ravel().tolist())
    image.putpalette(palette.ravel().tolist())
    loaded = read_image(make.encoded(image, "PNG", transparency=transparency))
    levels = np.array([255, 255, 255, 0] if transparency == 3 else list(transparency))
    np.testing.assert_array_equal(loaded.alpha, levels[index])
    np.testing.assert_array_equal(loaded.native, palette[index])
    assert loaded.mode == "P"


def test_a_palette_without_transparency():
    image = Image.fromarray(make.smooth()).quantize(16)
    loaded = read_image(make.encoded(image, "PNG"))
    assert loaded.alpha is None
    np.testing.assert_array_equal(loaded.rgb, np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_transparent_key_colour_becomes_alpha(mode):
    pixels = make.noise(channels=len(mode))
    pixels[2:5, 2:5] = 77
    key = (77, 77, 77) if mode == "RGB" else 77
    loaded = read_image(make.encoded(pixels, "PNG", transparency=key))
    expected = (pixels == 77).all(axis=-1) if mode == "RGB" else pixels == 77
    np.testing.assert_array_equal(loaded.alpha, np.where(expected, 0, 255))


def test_one_bit_image_and_mask():
    bits = make.noise(channels=1) > 127
    loaded = read_image(make.encoded(Image.fromarray(bits), "PNG"))
    np.testing.assert_array_equal(loaded.rgb, (bits * 255)[..., None].repeat(3, axis=-1))
    np.testing.assert_array_equal(read_mask(make.encoded(Image.fromarray(bits), "PNG"), (17, 13)).weights, bits)


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_16_bit_grey_is_rounded_to_8_bits(file_format):
    values = np.random.default_rng(0).integers(0, 65536, (13, 17), dtype=np.uint16)
    values[0, :4] = 0, 128, 129, 65535
    loaded = read_image(make.encoded(Image.fromarray(values), file_format))
    np.testing.assert_array_equal(loaded.rgb[..., 0], np.rint(values / 257))
    assert "16 bits" in loaded.note
    assert loaded.grey


def test_16_bit_grey_with_transparent_level():
    values = np.array([[0, 300, 65535], [300, 5, 301]], dtype=">u2")
    data = make.png(3, 2, 16, 0, [row.tobytes() for row in values], make.chunk(b"tRNS", b"\x01\x2c"))
    np.testing.assert_array_equal(read_image(data).alpha, np.where(values == 300, 0, 255))


@pytest.mark.parametrize(("colour", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_16_bits_per_channel_are_read_as_8(colour, channels):
    values = np.random.default_rng(0).integers(0, 65536, (5, 4, channels)).astype(">u2")
    loaded = read_image(make.png(4, 5, 16, colour, [row.tobytes() for row in values]))
    colours = values[..., :3] if channels >= 3 else values[..., :1].repeat(3, axis=-1)
    assert np.abs(loaded.native.astype(float) - colours.astype(float) / 257).max() <= 1
    assert "16 bits" in loaded.note


def test_16_bits_per_pixel_are_not_16_per_channel():
    header = struct.pack("<IiiHHIIiiII", 40, 2, 1, 1, 16, 0, 4, 0, 0, 0, 0)
    data = b"BM" + struct.pack("<IHHI", 58, 0, 0, 54) + header + struct.pack("<HH", 0x7FFF, 0x7C00)
    loaded = read_image(data)
    assert loaded.rgb.tolist() == [[[255, 255, 255], [255, 0, 0]]]
    assert loaded.note == ""


def test_floats_and_32_bit_integers_need_a_known_range():
    ramp = np.linspace(0, 1, 21, dtype=np.float32).reshape(3, 7)
    loaded = read_image(make.encoded(Image.fromarray(ramp), "TIFF"))
    np.testing.assert_array_equal(loaded.rgb[..., 1], np.rint(ramp.astype(np.float64) * 255))
    wide = np.array([[0, 65535]], dtype=np.int32)
    assert read_image(make.encoded(Image.fromarray(wide), "TIFF")).rgb[0, 1].tolist() == [255] * 3
    for bad in (ramp * 2, ramp - 0.5, ramp * np.nan, wide * 2, wide - 1):
        with pytest.raises(BadInput, match="8 or 16 bits"):
            read_image(make.encoded(Image.fromarray(bad), "TIFF"))


@pytest.mark.parametrize("file_format", ["JPEG", "TIFF"])
def test_cmyk_image_is_converted_with_a_note(file_format):
    cmyk = Image.fromarray(make.smooth()).convert("CMYK")
    loaded = read_image(make.encoded(cmyk, file_format, **({"quality": 100} if file_format == "JPEG" else {})))
    assert np.abs(loaded.rgb.astype(int) - make.smooth()).max() <= 16
    assert "CMYK" in loaded.note
    assert loaded.icc is None


def frames(n=3):
    return [Image.fromarray(make.smooth(seed=i)) for i in range(n)]


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "PNG"])
def test_first_frame_of_an_animation_is_used_with_note(file_format):
    first, *rest = frames()
    options = {"lossless": True} if file_format == "WEBP" else {}
    data = make.encoded(first, file_format, save_all=True, append_images=rest, duration=40, **options)
    loaded = read_image(data)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(loaded.rgb, expected)
    assert loaded.note == "animated: first frame of 3 used"


def test_first_page_of_tiff_and_first_image_of_mpo():
    first, *rest = frames()
    loaded = read_image(make.encoded(first, "TIFF", save_all=True, append_images=rest))
    np.testing.assert_array_equal(loaded.rgb, np.asarray(first))
    assert "3 images" in loaded.note
    loaded = read_image(make.encoded(first, "MPO", save_all=True, append_images=rest[:1]))
    assert "2 images" in loaded.note
    assert np.abs(loaded.rgb.astype(int) - np.asarray(first)).mean() < 4


@pytest.mark.parametrize("file_format", ["GIF", "TIFF"])
def test_pillow_image_keeps_its_current_frame(file_format):
    first, *rest = frames()
    with Image.open(io.BytesIO(make.encoded(first, file_format, save_all=True, append_images=rest))) as image:
        image.seek(1)
        loaded = read_image(image)
        np.testing.assert_array_equal(loaded.rgb, np.asarray(image.convert("RGB")))
    assert "frame 2" in loaded.note
    assert "first" not in loaded.note


def test_damage_in_a_later_frame_is_ignored():
    first, *rest = frames(2)
    data = make.encoded(first, "TIFF", save_all=True, append_images=rest)
    alone = len(make.encoded(first, "TIFF"))
    assert np.array_equal(read_image(data[: alone + 40]).rgb, np.asarray(first))


@pytest.mark.parametrize(("w", "h"), [(1, 1), (1, 20_000), (20_000, 1), (2, 3), (1, 7)])
def test_extreme_sizes(w, h):
    pixels = make.noise(h, w)
    loaded = read_image(make.encoded(pixels, "PNG"))
    np.testing.assert_array_equal(loaded.rgb, pixels)
    assert loaded.size == (w, h)


def test_progressive_jpeg_equals_baseline_jpeg():
    pixels = make.smooth()
    plain, progressive = (read_image(make.encoded(pixels, "JPEG", progressive=p)).rgb for p in (False, True))
    np.testing.assert_array_equal(plain, progressive)


def test_pil_images_match_files_and_bytes(tmp_path):
    stored = make.noise(channels=4)
    path = tmp_path / "turned.png"
    path.write_bytes(make.encoded(stored, "PNG", exif=make.exif(6)))
    with Image.open(path) as image:
        by_image = read_image(image)
        assert image.size == (17, 13)  # the caller's image is unchanged
    by_path, by_bytes = read_image(path), read_image(path.read_bytes())
    for other in (by_image, by_bytes):
        np.testing.assert_array_equal(other.rgb, by_path.rgb)
        np.testing.assert_array_equal(other.alpha, by_path.alpha)
    assert by_bytes.name == "the given image"
    assert read_image(Image.new("RGB", (3, 2), (1, 2, 3))).rgb.tolist() == [[[1, 2, 3]] * 3] * 2
    for mode in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", "I", "F"):
        assert read_image(Image.new(mode, (3, 2))).rgb.shape == (2, 3, 3)
    with pytest.raises(BadInput, match="save it as RGB"):
        read_image(Image.new("La", (3, 2)))


def test_a_closed_pil_image_is_refused(tmp_path):
    path = tmp_path / "closed.png"
    path.write_bytes(make.encoded(make.noise(), "PNG"))
    image = Image.open(path)
    image.close()
    with pytest.raises(BadInput, match=r"closed\.png"):
        read_image(image)


def test_file_names_outside_ascii(tmp_path):
    for name in ("Äpfel 🍎.png".encode(), b"caf\xe9.png"):
        raw = os.fsencode(tmp_path) + b"/" + name
        with open(raw, "wb") as file:
            file.write(make.encoded(make.noise(), "PNG"))
        assert read_image(os.fsdecode(raw)).size == (17, 13)


@pytest.mark.parametrize("background", [(255,), (255, 255), (1, 2, 3, 4), (254.5, 1, 1), "abc", 255, None])
def test_background_must_be_three_integers(background):
    with pytest.raises(BadInput, match="three integer levels"):
        read_image(make.encoded(make.noise(channels=4), "PNG"), background=background)


def test_background_outside_0_to_255_is_rejected():
    with pytest.raises(BadInput, match=r"0\.\.255"):
        read_image(make.encoded(make.noise(), "PNG"), background=(0, 0, 256))
