"""Unusable files: each raises BadInput with the name of the file, quickly, and no other exception."""

import os
import re
import socket
import struct
import tracemalloc
import zlib
from contextlib import contextmanager
from functools import cache

import numpy as np
import pytest
from PIL import Image

from images import make
from sfumato.errors import BadInput
from sfumato.images import read_image, read_mask

SMOOTH = make.smooth()
WHOLE = {
    "PNG": make.encoded(SMOOTH, "PNG"),
    "JPEG": make.encoded(SMOOTH, "JPEG"),
    "progressive": make.encoded(SMOOTH, "JPEG", progressive=True),
    "WEBP": make.encoded(SMOOTH, "WEBP", lossless=True),
    "lossy-webp": make.encoded(SMOOTH, "WEBP"),
    "TIFF": make.encoded(SMOOTH, "TIFF"),
    "lzw-tiff": make.encoded(SMOOTH, "TIFF", compression="tiff_lzw"),
    "BMP": make.encoded(SMOOTH, "BMP"),
    "GIF": make.encoded(Image.fromarray(SMOOTH).quantize(), "GIF"),
    "rgba-png": make.encoded(make.noise(channels=4), "PNG", icc_profile=make.wide_profile()),
    "animated": make.encoded(
        Image.fromarray(SMOOTH), "WEBP", save_all=True, append_images=[Image.fromarray(255 - SMOOTH)]
    ),
}


def refused(path, *words, **options):
    """Check that `path` raises BadInput with one sentence that contains the words; returns the sentence."""
    with pytest.raises(BadInput) as caught:
        read_image(path, **options)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    for word in words:
        assert word in sentence
    return sentence


def read_or_refused(source, **options):
    """(image, None), or (None, message of the BadInput)."""
    try:
        return read_image(source, **options), None
    except BadInput as error:
        return None, str(error)


@contextmanager
def peak_memory():
    """Trace the memory of Python; yields a function that returns the peak in bytes after the block."""
    tracemalloc.start()
    peaks = []
    try:
        yield lambda: peaks[0]
        peaks.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("share", range(20))
@pytest.mark.parametrize("kind", WHOLE)
def test_truncated_file_is_rejected_or_reads_identically(tmp_path, kind, share):
    data = WHOLE[kind]
    whole = read_image(data)
    path = tmp_path / f"cut-{share}.png"
    path.write_bytes(data[: len(data) * (2 * share + 1) // 40])
    image, sentence = read_or_refused(path)
    if image is None:
        assert path.name in sentence
    else:
        np.testing.assert_array_equal(image.rgb, whole.rgb)


@pytest.mark.parametrize("kind", WHOLE)
def test_file_with_half_of_its_bytes_is_rejected(tmp_path, kind):
    data = WHOLE[kind]
    path = tmp_path / "half.jpg"
    path.write_bytes(data[: len(data) // 2])
    if kind != "animated":  # its first frame may be complete
        refused(path, "half.jpg", "damaged")


@pytest.mark.parametrize("kind", WHOLE)
def test_flipped_bytes_are_read_or_rejected(kind):
    """A hang would end by the time limit of the test suite; images that are read respect the pixel limit."""
    rng = np.random.default_rng(len(kind))
    for _ in range(60):
        data = bytearray(WHOLE[kind])
        for _ in range(rng.integers(1, 4)):
            # half of the flips hit the header, where the sizes and types are
            at = rng.integers(0, 64 if rng.random() < 0.5 else len(data))
            data[at] ^= 1 << rng.integers(0, 8)
        image, _ = read_or_refused(bytes(data), max_pixels=4_000_000)
        if image is not None:
            assert image.rgb.dtype == np.uint8
            assert image.rgb.shape[:2] == image.size[::-1]
            assert image.rgb.size <= 3 * 4_000_000


def test_random_bytes_after_a_signature_are_rejected():
    rng = np.random.default_rng(0)
    for head in (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"RIFF", b"II*\0", b"MM\0*", b"BM", b"GIF89a"):
        for length in (0, 1, 20, 3000):
            with pytest.raises(BadInput):
                read_image(head + rng.bytes(length))


@pytest.mark.filterwarnings("error::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [9_700, 15_000, 40_000, 2**31 - 1])
def test_png_header_with_too_many_pixels_is_rejected(tmp_path, side):
    path = tmp_path / "bomb.png"
    path.write_bytes(make.png(side, side, 8, 2, [b"\0" * 8]))
    refused(path, "bomb.png", f"{side} x {side} = {side * side:,} pixels, more than the limit", "--max-pixels")


def bmp_header(side):
    size = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + size


def gif_header(side):
    return (
        b"GIF89a"
        + struct.pack("<HHBBB", side, side, 0, 0, 0)
        + b",\0\0\0\0"
        + struct.pack("<HHB", side, side, 0)
        + b"\x02\x01\x44\x00;"
    )


@pytest.mark.filterwarnings("error::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [9_700, 30_000])
@pytest.mark.parametrize("header", [bmp_header, gif_header])
def test_other_headers_with_too_many_pixels_are_rejected(tmp_path, header, side):
    path = tmp_path / "bomb"
    path.write_bytes(header(side))
    refused(path, "bomb", f"{side} x {side} = {side * side:,} pixels, more than the limit", "--max-pixels")


def test_size_of_an_animation_is_checked_before_pillow_allocates_its_frame(tmp_path, monkeypatch):
    """Pillow fills a frame when it opens a file with the disposal method "background"."""
    animation = make.chunk(b"acTL", struct.pack(">II", 2, 0))
    animation += make.chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 20_000, 20_000, 0, 0, 1, 10, 1, 0))
    png = make.png(20_000, 20_000, 8, 0, [b"\0" * 8], animation)
    gif = gif_header(20_000).replace(b",", b"!\xf9\4\x08\0\0\0\0,", 1)
    monkeypatch.setattr(Image.core, "fill", None)
    for data in (png, gif):
        (tmp_path / "bomb").write_bytes(data)
        refused(tmp_path / "bomb", "20000 x 20000")


INFLATED = 50_000_000


@cache
def squeezed_zeros():
    squeezer = zlib.compressobj(1)
    return b"".join(squeezer.compress(bytes(1_000_000)) for _ in range(INFLATED // 1_000_000)) + squeezer.flush()


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_large_compressed_chunks_are_not_inflated(tmp_path, kind):
    data = squeezed_zeros()
    head = {b"zTXt": b"sfumato\0\0", b"iTXt": b"sfumato\0\1\0\0\0", b"iCCP": b"profile\0\0"}[kind]
    rows = [bytes(3 * 4)] * 4
    path = tmp_path / "text.png"
    path.write_bytes(make.png(4, 4, 8, 2, rows, make.chunk(kind, head + data)))
    with peak_memory() as peak:
        zlib.decompress(data)
    assert peak() >= INFLATED  # the measurement includes the inflated data
    with peak_memory() as peak:
        _, sentence = read_or_refused(path)
    assert "text.png" in (sentence or "text.png")
    assert peak() < INFLATED / 5


NOT_IMAGES = {
    "empty.png": (b"", "empty"),
    "text.png": (b"this is a shopping list\n", "text"),
    "utf8.jpg": ("Äpfel und Birnen".encode(), "image"),
    "page.jpg": (b"<!DOCTYPE html><html><body>404</body></html>", "web page"),
    "drawing.svg": (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
    "bare.svg": (b"<svg viewBox='0 0 1 1'/>", "SVG"),
    "paper.pdf": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "PDF"),
    "figure.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript"),
    "phone.heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 99, "HEIC"),
    "phone.avif": (b"\0\0\0\x18ftypavif\0\0\0\0mif1avif" + b"\0" * 99, "AVIF"),
    "weights.png": (b"\x80\x02}q\0X\x05\0\0\0stateq\x01", "image"),
    "archive.jpg": (b"PK\x03\x04" + bytes(60), "image"),
    "zeros.tiff": (bytes(4096), "image"),
    "icon.ico": (make.encoded(make.noise(16, 16), "ICO"), "is an icon (ICO), a format that is not supported"),
    "portable.ppm": (make.encoded(make.noise(), "PPM"), "is a Netpbm image"),
    "photoshop.psd": (b"8BPS\0\1" + bytes(40), "is a Photoshop document (PSD)"),
    "wavelet.jp2": (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(40), "is a JPEG 2000 image"),
    "wavelet.j2k": (b"\xff\x4f\xff\x51" + bytes(40), "is a JPEG 2000 image"),
    "new.jxl": (b"\xff\x0a" + bytes(40), "is a JPEG XL image"),
    "boxed.jxl": (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(40), "is a JPEG XL image"),
    "camera.cr2": (b"II*\0\x10\0\0\0CR\2\0" + bytes(40), "is a raw file of a camera"),
    "camera.cr3": (b"\0\0\0\x18ftypcrx " + bytes(40), "is a raw file of a camera"),
    "render.exr": (b"\x76\x2f\x31\x01" + bytes(40), "is an OpenEXR image"),
    "render.hdr": (b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n", "is a Radiance image"),
    "game.tga": (make.encoded(make.noise(), "TGA"), "is a Targa image"),
    "game-rle.tga": (make.encoded(make.noise(channels=4), "TGA", compression="tga_rle"), "is a Targa image"),
    "layers.xcf": (b"gimp xcf v011" + bytes(40), "is a GIMP document"),
    "signature.png": (b"\x89PNG\r\n\x1a\n", "image"),
    "no-pixels.png": (make.png(0, 0, 8, 2, []), "no-pixels.png"),
    "flat.png": (make.png(5, 0, 8, 2, []), "flat.png"),
    "bad-bits.png": (make.png(4, 4, 7, 2, [bytes(12)] * 4), "bad-bits.png"),
    "no-data.png": (b"".join([make.png(4, 4, 8, 2, [])[:33], make.chunk(b"IEND", b"")]), "no-data.png"),
    "no-frames.gif": (b"GIF89a\x04\0\x04\0\0\0\0;", "no-frames.gif"),
}


@pytest.mark.parametrize("name", NOT_IMAGES)
def test_non_images_are_rejected_by_name_and_kind(tmp_path, name):
    content, word = NOT_IMAGES[name]
    path = tmp_path / name
    path.write_bytes(content)
    refused(path, name, word)
    with pytest.raises(BadInput, match=re.escape(name)):
        read_mask(path, (4, 4))


def test_paths_without_a_file_are_rejected(tmp_path):
    refused(tmp_path / "missing.png", "missing.png", "does not exist")
    (tmp_path / "folder.png").mkdir()
    refused(tmp_path / "folder.png", "folder.png", "folder")
    (tmp_path / "broken.png").symlink_to(tmp_path / "gone.png")
    refused(tmp_path / "broken.png", "broken.png", "link")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    refused(tmp_path / "loop.png", "loop.png")
    (tmp_path / "file").write_bytes(b"x")
    refused(tmp_path / "file" / "under.png", "under.png")
    refused(tmp_path / ("n" * 300 + ".png"), "nnn")
    refused("nul\0byte.png", r"nul\x00byte.png")
    refused("", "give an image file")


def test_special_files_are_rejected_without_blocking(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    refused(tmp_path / "pipe.png", "pipe.png", "not a regular file")
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(tmp_path)  # the path of a socket has a small maximum length
        try:
            server.bind("s.png")
        finally:
            os.chdir(here)
        refused(tmp_path / "s.png", "s.png", "not a regular file")
    refused("/dev/zero", "not a regular file")


def test_unreadable_file_is_rejected(tmp_path, monkeypatch):
    path = tmp_path / "secret.png"
    path.write_bytes(WHOLE["PNG"])
    path.chmod(0)
    if os.access(path, os.R_OK):  # root can read every file

        def fail(*_):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("sfumato.regular_files.os.open", fail)
    refused(path, "secret.png", "permission")


def test_unprintable_file_names_are_escaped(tmp_path):
    raw = os.fsencode(tmp_path) + b"/caf\xe9\x1b[31m\n.png"
    with open(raw, "wb") as file:
        file.write(b"text")
    sentence = refused(os.fsdecode(raw), r"caf\xe9", r"\x1b[31m", r"\n.png")
    sentence.encode("utf-8")
    with open(raw, "wb") as file:
        file.write(WHOLE["PNG"])
    assert read_image(os.fsdecode(raw)).name.encode("utf-8")


def test_pixel_limit_is_exact_and_cannot_be_disabled(tmp_path):
    path = tmp_path / "image.png"
    path.write_bytes(WHOLE["PNG"])
    assert read_image(path, max_pixels=48 * 64).size == (64, 48)
    refused(path, "64 x 48", "3,072", "3,071", "max_pixels", max_pixels=48 * 64 - 1)
    for limit in (0, -1, None, True, 1.5, float("inf")):
        with pytest.raises(BadInput, match="max_pixels"):
            read_image(path, max_pixels=limit)
    with pytest.raises(BadInput, match="64 x 48"):
        read_image(Image.open(path), max_pixels=100)


def test_limit_above_that_of_pillow_is_used_and_restored(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    path = tmp_path / "image.png"
    path.write_bytes(WHOLE["PNG"])
    assert read_image(path, max_pixels=4000).size == (64, 48)
    assert Image.MAX_IMAGE_PIXELS == 1000
    refused(path, "limit", max_pixels=1000)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # Pillow's limit is disabled, that of sfumato still applies
    refused(path, "limit", max_pixels=1000)
    assert Image.MAX_IMAGE_PIXELS is None
