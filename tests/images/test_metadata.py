"""EXIF, resolution and recipes are kept where the format supports them, without private or outdated tags."""

import struct

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from images import make
from sfumato.images import read_image, read_recipe, write_image

RECIPE = {"prompt": 'a "grün" <b> & 🍏', "seed": 7}
WITH_EXIF = [".png", ".jpg", ".webp", ".tif"]
EXIF, GPS = 0x8769, 0x8825


def photograph(orientation=6):
    """A PNG with the EXIF tags and the resolution of a photograph from a phone."""
    block = Image.Exif()
    block[0x0112], block[0x010F], block[0x0132] = orientation, "Maker", "2026:11:28 20:00:00"
    block[EXIF] = {0x829A: IFDRational(1, 50), 0xA001: 65535, 0xA002: 17, 0xA003: 13, 0x927C: b"the maker's own notes"}
    block[GPS] = {1: "N", 2: (52.0, 30.0, 0.0)}
    return make.encoded(make.noise(), "PNG", exif=block, dpi=(300, 150))


def written(path, source, **options):
    note = write_image(path, source.rgb, source, **options)
    with Image.open(path) as image:
        image.load()
        return image, image.getexif(), note


@pytest.mark.parametrize("extension", WITH_EXIF)
def test_exif_is_kept_with_updated_size_and_without_gps(tmp_path, extension):
    source = read_image(photograph())
    assert source.size == (13, 17)
    _, exif, note = written(tmp_path / f"out{extension}", source)
    assert (exif[0x010F], exif[0x0132]) == ("Maker", "2026:11:28 20:00:00")
    assert exif.get(0x0112, 1) == 1
    tags = exif.get_ifd(EXIF)
    assert float(tags[0x829A]) == pytest.approx(1 / 50)
    assert (tags[0xA001], tags[0xA002], tags[0xA003]) == (1, 13, 17)
    assert not exif.get_ifd(GPS)
    assert "--keep-gps" in note
    assert b"maker's own" not in (tmp_path / f"out{extension}").read_bytes()
    np.testing.assert_array_equal(read_image(tmp_path / f"out{extension}").size, source.size)


@pytest.mark.parametrize("extension", WITH_EXIF)
def test_gps_position_is_kept_on_request(tmp_path, extension):
    _, exif, note = written(tmp_path / f"out{extension}", read_image(photograph()), keep_gps=True)
    assert exif.get_ifd(GPS)[2] == (52.0, 30.0, 0.0)
    assert note == ""


def test_exif_colour_space_is_kept_with_a_profile(tmp_path):
    block = Image.Exif()
    block[EXIF] = {0xA001: 65535}
    source = read_image(make.encoded(make.noise(), "PNG", exif=block, icc_profile=make.wide_profile()))
    _, exif, _ = written(tmp_path / "out.png", source)
    assert exif.get_ifd(EXIF)[0xA001] == 65535


@pytest.mark.parametrize("extension", [".png", ".jpg", ".tif", ".bmp", ".webp"])
@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "TIFF", "BMP"])
def test_the_resolution_is_kept(tmp_path, extension, file_format):
    source = read_image(make.encoded(make.noise(), file_format, dpi=(300, 150)))
    written(tmp_path / f"out{extension}", source)
    again = read_image(tmp_path / f"out{extension}")
    assert again.dpi == pytest.approx((300, 150), abs=0.1)  # per metre in PNG and BMP


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "TIFF", "WEBP"])
@pytest.mark.parametrize(("orientation", "dpi"), [(1, (300, 150)), (3, (300, 150)), (6, (150, 300)), (8, (150, 300))])
def test_metadata_with_directions_is_turned_with_the_pixels(tmp_path, file_format, orientation, dpi):
    block = Image.Exif()
    block[0x0112], block[0x011A], block[0x011B], block[0x0128] = orientation, 300.0, 150.0, 2
    block[EXIF] = {0xA20E: IFDRational(30, 1), 0xA20F: IFDRational(15, 1), 0x9214: (3, 4)}
    data = make.encoded(make.noise(10, 20), file_format, exif=block.tobytes(), dpi=(300, 150))
    source = read_image(data)
    assert source.size == ((20, 10) if orientation in (1, 3) else (10, 20))
    assert source.dpi == pytest.approx(dpi, abs=0.1)
    tags = written(tmp_path / "out.png", source)[1].get_ifd(EXIF)
    assert (float(tags[0xA20E]), float(tags[0xA20F])) == (dpi[0] / 10, dpi[1] / 10)
    assert (0x9214 in tags) == (orientation == 1)


def test_resolution_in_centimetres_and_missing_resolution(tmp_path):
    block = Image.Exif()
    block[0x011A], block[0x011B], block[0x0128] = 100.0, 50.0, 3
    assert read_image(make.encoded(make.noise(), "WEBP", exif=block)).dpi == pytest.approx((254, 127))
    for file_format in ("PNG", "JPEG", "TIFF", "WEBP", "GIF"):
        image, _, _ = written(tmp_path / "out.png", read_image(make.encoded(make.noise(), file_format)))
        assert "dpi" not in image.info
    del block[0x011A], block[0x011B]
    assert read_image(make.encoded(make.noise(), "JPEG", exif=block)).dpi is None  # Pillow reports 72


@pytest.mark.parametrize("block", [b"II*\0\xff\xff\xff\xff", b"II*\0\x08\0\0\0\x05\0" + b"\xff" * 60, b"MM"])
def test_malformed_exif_block_does_not_prevent_writing(tmp_path, block):
    data = make.encoded(make.noise(), "PNG")
    source = read_image(data[:33] + make.chunk(b"eXIf", block) + data[33:])
    image, _, _ = written(tmp_path / "out.jpg", source)
    assert image.size == source.size


@pytest.mark.parametrize("extension", WITH_EXIF)
def test_exif_texts_are_kept_and_other_types_removed(tmp_path, extension):
    """libtiff crashes the process when it writes a description that is a number."""
    block = struct.pack("<4sIH", b"II*\0", 8, 4)
    block += struct.pack("<HHI4s", 0x010E, 4, 1, b"\1\2\3\4") + struct.pack("<HHI4s", 0x010F, 2, 4, "é\0".encode())
    block += struct.pack("<HHII", 0x013C, 12, 2, 62) + struct.pack("<HHII", 0x9C9B, 3, 8, 62)
    data = make.encoded(make.noise(), "PNG")
    source = read_image(data[:33] + make.chunk(b"eXIf", block + bytes(4) + bytes(range(64))) + data[33:])
    _, exif, _ = written(tmp_path / f"out{extension}", source)
    assert exif[0x010F].rstrip("\0").encode("latin-1") == "é".encode()
    assert not {0x010E, 0x013C, 0x9C9B} & set(exif)


def test_too_long_exif_block_is_noted():
    block = Image.Exif()
    block[EXIF] = {0x9286: bytes(70_000)}
    assert "more than 65,000 bytes: left out" in read_image(make.encoded(make.noise(), "PNG", exif=block)).note


@pytest.mark.parametrize("extension", [".png", ".jpg", ".webp", ".tif", ".gif"])
@pytest.mark.parametrize("with_exif", [False, True])
def test_recipe_is_stored_together_with_exif(tmp_path, extension, with_exif):
    source = read_image(photograph()) if with_exif else None
    path = tmp_path / f"out{extension}"
    write_image(path, source.rgb if source else make.noise(), source, RECIPE)
    assert read_recipe(path) == RECIPE
    if with_exif and extension != ".gif":
        with Image.open(path) as image:
            assert image.getexif()[0x010F] == "Maker"


def test_rewritten_xmp_packet_is_read_and_long_recipe_omitted(tmp_path):
    write_image(tmp_path / "out.webp", make.noise(), recipe=RECIPE)
    with Image.open(tmp_path / "out.webp") as image:
        packet = image.info["xmp"].decode()
    start, end = packet.index(" sfumato:recipe="), packet.index('"/>')
    text = packet[start + len(' sfumato:recipe="') : end]
    element = packet[:start] + f"><sfumato:recipe>{text}</sfumato:recipe></rdf:Description>" + packet[end + 3 :]
    Image.fromarray(make.noise()).save(tmp_path / "other.jpg", xmp=element.encode())
    assert read_recipe(tmp_path / "other.jpg") == RECIPE
    note = write_image(tmp_path / "long.jpg", make.noise(), recipe={"prompt": "x" * 70_000})
    assert "cannot store a recipe this long" in note


def test_gif_is_exact_up_to_256_colours_with_note_beyond(tmp_path):
    few = make.noise(levels := 40, 40) // 64 * 64  # at most 64 colours
    source = read_image(make.encoded(Image.fromarray(few).quantize(64), "GIF"))
    assert (source.file_format, levels) == ("GIF", 40)
    assert write_image(tmp_path / "out.gif", source.rgb, source) == ""
    np.testing.assert_array_equal(read_image(tmp_path / "out.gif").rgb, source.rgb)
    many = make.noise(60, 60)
    assert "256 colours of" in write_image(tmp_path / "many.gif", many)
    assert np.abs(read_image(tmp_path / "many.gif").rgb.astype(int) - many).mean() < 32


def test_gif_keeps_transparent_pixels(tmp_path):
    pixels = make.noise(9, 8, 4) // 128 * 128
    pixels[..., 3] = np.where(make.noise(9, 8, 1) < 128, 0, 255)
    source = read_image(make.encoded(pixels, "PNG"))
    assert write_image(tmp_path / "out.gif", source.rgb, source) == ""
    again = read_image(tmp_path / "out.gif")
    np.testing.assert_array_equal(again.alpha, source.alpha)
    np.testing.assert_array_equal(again.rgb, source.rgb)
    pixels[..., 3] = 200
    source = read_image(make.encoded(pixels, "PNG"))
    assert "partly transparent" in write_image(tmp_path / "out.gif", source.rgb, source)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_not_applied_twice(orientation):
    import io

    from PIL import ImageOps

    stored = make.noise()
    for file_format in ("PNG", "TIFF", "WEBP"):
        options = {"lossless": True} if file_format == "WEBP" else {}
        data = make.encoded(stored, file_format, exif=make.exif(orientation), **options)
        with Image.open(io.BytesIO(data)) as image:
            turned = ImageOps.exif_transpose(image)
            kept = image.convert("RGB")  # keeps the tag, so it is still to be turned
        expected = make.UPRIGHT[orientation](stored)
        np.testing.assert_array_equal(read_image(turned).rgb, expected)
        np.testing.assert_array_equal(read_image(kept).rgb, expected)


def test_letters_beyond_latin_1_of_images_in_memory_are_kept():
    image = Image.new("RGB", (9, 7))
    image.getexif()[0x010E] = "日本"
    image.getexif()[0x013B] = "Ève"
    loaded = read_image(image)
    assert not loaded.note
    exif = Image.Exif()
    exif.load(loaded.exif)
    assert exif[0x010E].rstrip("\0").encode("latin-1").decode("utf-8") == "日本"
    assert exif[0x013B].rstrip("\0") == "Ève"
