"""Colour profiles: images are converted to sRGB for the model, and files keep their profile where possible."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from images import make
from sfumato.images import read_image, write_image

# D50 -> sRGB linear, and the D50 primaries of the wide profile: the conversion of matrix profiles.
TO_LINEAR_SRGB = np.array(
    [[3.1338561, -1.6168667, -0.4906146], [-0.9787684, 1.9161415, 0.0334540], [0.0719453, -0.2289914, 1.4052427]]
)
WIDE_TO_XYZ = np.array([[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]])


def srgb_curve(linear):
    linear = np.clip(linear, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def embedded(data):
    return Image.open(io.BytesIO(data)).info.get("icc_profile")


def test_a_wide_profile_is_converted_by_its_matrix_and_curve():
    pixels = make.smooth()
    image = read_image(make.encoded(pixels, "PNG", icc_profile=make.wide_profile()))
    linear = (pixels / 255.0) ** 2.2 @ WIDE_TO_XYZ.T @ TO_LINEAR_SRGB.T
    assert np.abs(image.rgb - 255 * srgb_curve(linear)).max() <= 1.5
    assert np.abs(image.rgb.astype(int) - pixels).max() > 8
    np.testing.assert_array_equal(image.native, pixels)
    assert image.icc == make.wide_profile()
    assert image.note == ""


def test_srgb_profile_changes_at_most_one_level():
    pixels = make.noise(40, 40)
    image = read_image(make.encoded(pixels, "JPEG", icc_profile=make.srgb_profile(), quality=100))
    assert np.abs(image.rgb.astype(int) - image.native).max() <= 1


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "TIFF", "WEBP"])
@pytest.mark.parametrize("profile", [make.srgb_profile, make.wide_profile])
def test_profile_is_embedded_and_unchanged_pixels_are_identical(tmp_path, file_format, profile):
    pixels = make.smooth()
    options = {"lossless": True} if file_format == "WEBP" else {}
    source = read_image(make.encoded(pixels, file_format, icc_profile=profile(), **options))
    path = tmp_path / f"out.{file_format.lower()}"
    assert write_image(path, source.rgb, source) == ""
    assert embedded(path.read_bytes()) == profile()
    if file_format != "JPEG":
        np.testing.assert_array_equal(np.asarray(Image.open(path)), source.native)


def test_edited_pixels_are_converted_to_the_profile(tmp_path):
    source = read_image(make.encoded(make.smooth(), "PNG", icc_profile=make.wide_profile()))
    edited = source.rgb.copy()
    edited[10:20, 10:20] = 255 - edited[10:20, 10:20]
    write_image(tmp_path / "out.png", edited, source)
    stored = np.asarray(Image.open(tmp_path / "out.png"))
    outside = np.ones(stored.shape[:2], dtype=bool)
    outside[10:20, 10:20] = False
    np.testing.assert_array_equal(stored[outside], source.native[outside])
    again = read_image(tmp_path / "out.png")
    assert np.abs(again.rgb.astype(int) - edited).max() <= 3
    assert np.abs(stored[10:20, 10:20].astype(int) - edited[10:20, 10:20]).max() > 3


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_profile_and_alpha_together_round_trip(tmp_path, mode):
    pixels = make.noise(channels=len(mode))
    image = Image.frombytes(mode, (17, 13), pixels.tobytes())
    source = read_image(make.encoded(image, "PNG", icc_profile=make.wide_profile()))
    write_image(tmp_path / "out.png", source.rgb, source)
    np.testing.assert_array_equal(
        np.asarray(Image.open(tmp_path / "out.png").convert("RGBA")), np.asarray(image.convert("RGBA"))
    )
    assert embedded((tmp_path / "out.png").read_bytes()) == make.wide_profile()


GARBAGE = {
    "noise": bytes(range(256)) * 2,
    "short": b"x",
    "cut": make.wide_profile()[:200],
    "header": make.wide_profile()[:128] + b"\xff" * 64,
    "zeros": bytes(500),
}


@pytest.mark.parametrize("icc", GARBAGE.values(), ids=GARBAGE)
@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_invalid_profile_is_ignored_with_a_note(tmp_path, icc, file_format):
    options = {"lossless": True} if file_format == "WEBP" else {}
    data = make.encoded(make.smooth(), file_format, icc_profile=icc, **options)
    image = read_image(data)
    np.testing.assert_array_equal(image.rgb, np.asarray(Image.open(io.BytesIO(data))))
    assert "profile" in image.note
    assert "ignored" in image.note
    write_image(tmp_path / "out.png", image.rgb, image)
    assert embedded((tmp_path / "out.png").read_bytes()) is None


def test_flipped_bytes_in_a_profile_raise_no_error():
    rng = np.random.default_rng(0)
    for _ in range(100):
        icc = bytearray(make.wide_profile())
        for _ in range(rng.integers(1, 4)):
            icc[rng.integers(0, len(icc))] ^= 1 << rng.integers(0, 8)
        image = read_image(make.encoded(make.noise(), "PNG", icc_profile=bytes(icc)))
        assert image.rgb.shape == (13, 17, 3)
        assert image.restore(255 - image.rgb).shape == (13, 17, 3)


@pytest.mark.parametrize("profile", [make.lab_profile, make.cmyk_profile, make.grey_profile])
def test_profile_for_another_mode_is_ignored_with_a_note(profile):
    image = read_image(make.encoded(make.smooth(), "PNG", icc_profile=profile()))
    np.testing.assert_array_equal(image.rgb, make.smooth())
    assert image.icc is None
    assert "ignored" in image.note


def with_alpha(grey):
    return Image.merge("LA", (grey, Image.new("L", grey.size, 255)))


@pytest.mark.parametrize("change", [lambda grey: grey, with_alpha], ids=["L", "LA"])
def test_a_grey_profile_is_kept_as_an_equivalent_profile_for_rgb(change, tmp_path):
    grey = make.noise(channels=1)
    image = read_image(make.encoded(change(Image.fromarray(grey)), "PNG", icc_profile=make.grey_profile(1.8)))
    expected = 255 * srgb_curve((grey / 255.0) ** 1.8)
    assert np.abs(image.rgb - expected[..., None]).max() <= 1.5
    assert not image.note
    write_image(tmp_path / "out.png", image.rgb, image)
    written = (tmp_path / "out.png").read_bytes()
    assert embedded(written) == image.icc
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(written)).convert("RGB"))[..., 1], grey)
    np.testing.assert_array_equal(read_image(written).rgb, image.rgb)


def test_levels_outside_the_mask_keep_a_grey_profile(tmp_path):
    grey = make.noise(channels=1)
    image = read_image(make.encoded(grey, "PNG", icc_profile=make.grey_profile(1.8)))
    edit = image.rgb.copy()
    edit[:4] = 255 - edit[:4]
    write_image(tmp_path / "out.png", edit, image)
    with Image.open(tmp_path / "out.png") as written:
        np.testing.assert_array_equal(np.asarray(written)[4:], np.repeat(grey[4:, :, None], 3, axis=2))


@pytest.mark.parametrize(
    ("curve", "light"),
    [
        (struct.pack(">4sII", b"curv", 0, 0), lambda x: x),
        (struct.pack(">4sII5H", b"curv", 0, 5, 0, 2000, 9000, 30000, 65535), None),
        (struct.pack(">4sIHH1i", b"para", 0, 0, 0, 144180), lambda x: x**2.2),
        (
            struct.pack(">4sIHH3i", b"para", 0, 1, 0, 131072, 68812, -3276),
            lambda x: np.maximum(1.05 * x - 0.05, 0) ** 2,
        ),
        (
            struct.pack(">4sIHH5i", b"para", 0, 3, 0, 157286, 62119, 3417, 5072, 2651),
            lambda x: np.where(x < 0.0404, x / 12.92, ((x + 0.055) / 1.055) ** 2.4),
        ),
    ],
    ids=["linear", "table", "power", "para 1", "sRGB"],
)
def test_curves_of_grey_profiles_are_those_of_lcms(curve, light):
    """Levels converted with the equivalent RGB profile equal those of lcms with the grey profile."""
    levels = np.arange(256, dtype=np.uint8)[None]
    if light is None:
        light = lambda x: np.interp(x, np.linspace(0, 1, 5), np.array([0, 2000, 9000, 30000, 65535]) / 65535)  # noqa: E731
    icc = make.grey_profile(curve=curve)
    found = read_image(make.encoded(levels, "PNG", icc_profile=icc)).rgb
    assert np.abs(found[0] - 255 * srgb_curve(light(levels[0] / 255))[:, None]).max() <= 1.5
    exact = ImageCms.Flags.NOOPTIMIZE  # otherwise lcms interpolates in a coarse table
    transform = ImageCms.buildTransform(io.BytesIO(icc), ImageCms.createProfile("sRGB"), "L", "RGB", flags=exact)
    assert (
        np.abs(found - np.asarray(ImageCms.applyTransform(Image.fromarray(levels), transform)).astype(int)).max() <= 1
    )


@pytest.mark.parametrize(
    "curve", [b"none\0\0\0\0", struct.pack(">4sII3H", b"curv", 0, 3, 9, 3, 1), b"para\0\0\0\0\0\x09\0\0"]
)
def test_a_grey_profile_without_an_increasing_curve_is_not_kept(curve):
    image = read_image(make.encoded(make.noise(channels=1), "PNG", icc_profile=make.grey_profile(curve=curve)))
    assert image.icc is None
    assert "profile" in image.note


def test_a_cmyk_profile_is_applied_and_not_kept(tmp_path):
    cmyk = Image.fromarray(make.smooth()).convert("CMYK")
    image = read_image(make.encoded(cmyk, "TIFF", icc_profile=make.cmyk_profile()))
    spread = image.rgb.max(axis=-1).astype(int) - image.rgb.min(axis=-1)
    assert spread.max() <= 4  # the profile gives greys only
    assert "CMYK" in image.note
    assert image.icc is None
    write_image(tmp_path / "out.tiff", image.rgb, image)
    assert Image.open(tmp_path / "out.tiff").mode == "RGB"


def test_one_way_profile_is_noted_and_not_kept(tmp_path):
    with pytest.raises(ImageCms.PyCMSError):
        ImageCms.buildTransform(ImageCms.createProfile("sRGB"), io.BytesIO(make.scanner_profile()), "RGB", "RGB")
    image = read_image(make.encoded(make.smooth(), "PNG", icc_profile=make.scanner_profile()))
    assert image.rgb.max(axis=-1).astype(int).max() > 0
    assert "no conversion from sRGB" in image.note
    assert image.icc is None
    write_image(tmp_path / "out.png", image.rgb, image)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out.png")), image.rgb)


def test_lab_pixels_are_converted_to_srgb():
    lab = ImageCms.profileToProfile(
        Image.fromarray(make.smooth()),
        ImageCms.createProfile("sRGB"),
        ImageCms.createProfile("LAB"),
        outputMode="LAB",
    )
    image = read_image(make.encoded(lab, "TIFF"))
    assert np.abs(image.rgb.astype(int) - make.smooth()).mean() < 1.5
