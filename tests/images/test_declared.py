"""Colours that are declared without a profile, compared with a conversion over XYZ; AVIF and HEIC files."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from images import make
from images.test_colour import TO_LINEAR_SRGB, srgb_curve
from sfumato.images import read_image, write_image
from sfumato.images.matrix_profile import ADOBE_RGB, CODED, D65, SRGB

BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
D50 = np.array([0.9642, 1.0, 0.8249])
PIXELS = make.smooth()


def png(*chunks):
    data = make.encoded(PIXELS, "PNG")
    return data[:33] + b"".join(make.chunk(*each) for each in chunks) + data[33:]


def gama(value):
    return b"gAMA", struct.pack(">I", value)


def chrm(primaries, white=D65):
    return b"cHRM", struct.pack(">8I", *(round(value * 100_000) for point in (white, *primaries) for value in point))


def cicp(primaries, transfer):
    return b"cICP", bytes([primaries, transfer, 0, 1])


def shown(primaries, linear, white=D65):
    """sRGB levels 0..255 of linear light in these primaries."""
    xyz = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
    target = np.array([white[0] / white[1], 1, (1 - sum(white)) / white[1]])
    xyz = xyz * np.linalg.solve(xyz, target)
    scale = np.diag((BRADFORD @ D50) / (BRADFORD @ target))
    adapted = np.linalg.inv(BRADFORD) @ scale @ BRADFORD @ xyz
    return 255 * srgb_curve(linear @ adapted.T @ TO_LINEAR_SRGB.T)


def srgb_light(levels):
    return np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)


LEVELS = PIXELS / 255


@pytest.mark.parametrize(
    ("chunks", "primaries", "linear"),
    [
        ([gama(100_000)], SRGB, LEVELS),
        ([gama(55_556)], SRGB, LEVELS**1.8),
        ([gama(45_470), chrm(ADOBE_RGB)], ADOBE_RGB, LEVELS**2.2),
        ([chrm(ADOBE_RGB)], ADOBE_RGB, srgb_light(LEVELS)),
        ([gama(50_000), chrm(ADOBE_RGB)], ADOBE_RGB, LEVELS**2.0),
        ([cicp(12, 13)], CODED[12], srgb_light(LEVELS)),
        ([cicp(9, 8)], CODED[9], LEVELS),
        ([cicp(12, 13), gama(100_000)], CODED[12], srgb_light(LEVELS)),
    ],
)
def test_declared_colours_are_converted(chunks, primaries, linear):
    found = read_image(png(*chunks))
    assert np.abs(found.rgb - shown(primaries, linear)).max() <= 2
    assert "colours converted as" in found.note
    np.testing.assert_array_equal(found.native, PIXELS)


@pytest.mark.parametrize(
    "chunks",
    [[gama(45_455)], [gama(45_455), chrm(SRGB)], [(b"sRGB", b"\0"), gama(100_000)], [cicp(1, 13)], [cicp(1, 1)], []],
)
def test_declarations_of_srgb_leave_pixels_unchanged(chunks):
    found = read_image(png(*chunks))
    np.testing.assert_array_equal(found.rgb, PIXELS)
    assert (found.icc, found.note) == (None, "")


@pytest.mark.parametrize(
    ("chunks", "words"),
    [
        ([cicp(9, 16)], "high dynamic range (PQ)"),
        ([cicp(9, 18)], "HLG"),
        ([cicp(22, 13)], "code 22, 13"),
        ([gama(0)], "chunks are invalid"),
        ([gama(45_455), chrm(((0.3, 0.3), (0.3, 0.3), (0.3, 0.3)))], "chunks are invalid"),
        ([gama(45_455), chrm(SRGB, (0.0, 0.0))], "chunks are invalid"),
        ([chrm(((40_000.0, 0.3), (0.3, 0.6), (0.0, 0.00001)))], "chunks are invalid"),
        ([chrm(((0.7, 0.3), (0.1, 0.8), (0.1, 0.00001)), (0.1, 0.00002))], "chunks are invalid"),
    ],
)
def test_unsupported_declarations_are_noted(chunks, words):
    found = read_image(png(*chunks))
    np.testing.assert_array_equal(found.rgb, PIXELS)
    assert words in found.note


def test_opened_image_has_equal_colours_before_and_after_decoding():
    data = png(gama(50_000), chrm(ADOBE_RGB))
    with Image.open(io.BytesIO(data)) as image:
        first, second = read_image(image), read_image(image)
    expected = read_image(data)
    for found in (first, second):
        np.testing.assert_array_equal(found.rgb, expected.rgb)
        assert found.icc == expected.icc


def test_embedded_profile_takes_precedence_over_gamma():
    data = make.encoded(PIXELS, "PNG", icc_profile=make.wide_profile())
    data = data[:33] + make.chunk(*gama(100_000)) + data[33:]
    assert read_image(data).icc == make.wide_profile()


def test_output_embeds_the_declared_colours_as_a_profile(tmp_path):
    source = read_image(png(cicp(12, 13)))
    write_image(tmp_path / "out.png", source.rgb, source)
    again = read_image(tmp_path / "out.png")
    np.testing.assert_array_equal(again.native, PIXELS)
    np.testing.assert_array_equal(again.rgb, source.rgb)


@pytest.mark.parametrize(
    ("tags", "words", "converted"),
    [
        ({0xA001: 1}, "", False),
        ({0xA001: 0xFFFF}, "another colour space", False),
        ({0xA001: 0xFFFF, 0xA005: {1: "R03"}}, "Adobe RGB", True),
        ({0xA001: 2}, "Adobe RGB", True),
    ],
)
def test_exif_colour_space_is_used(tags, words, converted):
    block = Image.Exif()
    block[0x8769] = tags
    found = read_image(make.encoded(PIXELS, "WEBP", exif=block, lossless=True))
    assert words in found.note
    expected = shown(ADOBE_RGB, LEVELS ** (563 / 256)) if converted else PIXELS
    assert np.abs(found.rgb - expected).max() <= 2


@pytest.mark.parametrize("file_format", ["AVIF", "HEIF"])
def test_avif_and_heic_are_read(tmp_path, file_format):
    if file_format == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    path = tmp_path / "photograph.bin"
    path.write_bytes(make.encoded(PIXELS, file_format, quality=95))
    found = read_image(path)
    assert np.abs(found.rgb.astype(int) - PIXELS).mean() < 4
    assert (found.file_format, found.note) == (file_format, "")


def test_colours_and_depth_of_a_heic_are_noted():
    heif = pytest.importorskip("pillow_heif")
    data = io.BytesIO()
    options = {"color_primaries": 12, "transfer_characteristics": 13, "save_nclx_profile": True}
    heif.from_pillow(Image.fromarray(PIXELS)).save(data, quality=95, **options)
    found = read_image(data.getvalue())
    assert "colours converted as the file declares" in found.note
    assert np.abs(found.rgb - shown(CODED[12], srgb_light(found.native / 255))).max() <= 2
    deep, data = heif.from_bytes("RGB;16", (64, 64), bytes(64 * 64 * 6)), io.BytesIO()
    deep.save(data)
    assert "10 bits per channel, read in 8 bits" in read_image(data.getvalue()).note


def test_avif_orientation_is_applied():
    data = make.encoded(PIXELS, "AVIF", quality=95, exif=make.exif(6))
    expected = make.UPRIGHT[6](PIXELS)
    assert np.abs(read_image(data).rgb.astype(int) - expected).mean() < 4


def test_heic_error_without_pillow_heif_has_install_command(monkeypatch):
    from sfumato.errors import BadInput
    from sfumato.images import heif

    monkeypatch.setattr(heif, "find_spec", lambda name: None)
    data = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99)
    with pytest.raises(BadInput, match=r"pip install 'sfumato\[heif\]'"):
        read_image(data)
