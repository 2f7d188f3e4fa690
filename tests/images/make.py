"""Images, colour profiles and files for the tests, built byte by byte where Pillow cannot write them."""

import io
import struct
import zlib
from functools import cache

import numpy as np
from PIL import Image, ImageCms


def noise(h=13, w=17, channels=3, seed=0):
    """Random uint8 [h, w, channels], or [h, w] for one channel, without any symmetry."""
    pixels = np.random.default_rng(seed).integers(0, 256, (h, w, channels), dtype=np.uint8)
    return pixels[..., 0] if channels == 1 else pixels


def smooth(h=48, w=64, seed=0):
    """A smooth uint8 [h, w, 3] image, which JPEG compression and profiles change little."""
    seeds = np.random.default_rng(seed).integers(40, 216, (4, 5, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(seeds).resize((w, h), Image.Resampling.BICUBIC))


def encoded(image, file_format, **options):
    """The bytes of a PIL image or array in a format."""
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    out = io.BytesIO()
    image.save(out, file_format, **options)
    return out.getvalue()


def chunk(kind, data):
    """One PNG chunk."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, bits, colour, rows, *extra):
    """A PNG from its header fields, raw rows (each without its filter byte) and extra chunks before the data."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows), 9)
    body = b"".join(extra) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body


def chunks(data):
    """[(kind, content)] of a PNG."""
    found, at = [], 8
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        found.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


@cache
def srgb_profile():
    """Pillow's sRGB profile; cached, because it contains the time of its creation."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def lab_profile():
    """A Lab profile, which describes no RGB pixels."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()


def _fixed(value):
    return struct.pack(">i", round(value * 65536))


def _xyz(x, y, z):
    return b"XYZ \0\0\0\0" + _fixed(x) + _fixed(y) + _fixed(z)


def _gamma(value):
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256)) + b"\0\0"


def _profile(space, kind, connection, tags):
    count, at, table, body = len(tags), 128 + 4 + 12 * len(tags), b"", b""
    for name, data in tags.items():
        data += b"\0" * (-len(data) % 4)
        table += name + struct.pack(">II", at + len(body), len(data))
        body += data
    size = at + len(body)
    header = struct.pack(">I4sI4s4s4s", size, b"lcms", 0x02400000, kind, space, connection)
    header += struct.pack(">6H4s", 2026, 1, 1, 0, 0, 0, b"acsp") + b"\0" * 28
    header += _fixed(0.9642) + _fixed(1.0) + _fixed(0.8249) + b"\0" * 48
    return header + struct.pack(">I", count) + table + body


def wide_profile(gamma=2.2):
    """A matrix profile with Adobe RGB's primaries (D50) and a pure gamma: wider than sRGB."""
    tags = {
        b"wtpt": _xyz(0.9505, 1.0, 1.0891),
        b"rXYZ": _xyz(0.60974, 0.31111, 0.01947),
        b"gXYZ": _xyz(0.20528, 0.62567, 0.06087),
        b"bXYZ": _xyz(0.14919, 0.06322, 0.74457),
    } | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), _gamma(gamma))
    return _profile(b"RGB ", b"mntr", b"XYZ ", tags)


def grey_profile(gamma=1.8, curve=None):
    """A grey profile with a pure gamma, or with the data of another curve."""
    tags = {b"wtpt": _xyz(0.9505, 1.0, 1.0891), b"kTRC": _gamma(gamma) if curve is None else curve}
    return _profile(b"GRAY", b"mntr", b"XYZ ", tags)


def table_profile(space, channels, to_lab):
    """A profile with a lookup table to Lab and none back; to_lab(corner of 0s and 1s) -> L, a, b in 0..255."""
    ramp = bytes(range(256))
    corners = np.indices((2,) * channels).reshape(channels, -1).T
    grid = bytes(level for corner in corners for level in to_lab(corner))
    head = b"mft1\0\0\0\0" + bytes([channels, 3, 2, 0])
    matrix = b"".join(_fixed(value) for value in (1, 0, 0, 0, 1, 0, 0, 0, 1))
    table = head + matrix + ramp * channels + grid + ramp * 3
    tags = {b"wtpt": _xyz(0.9505, 1.0, 1.0891), b"A2B0": table}
    return _profile(space, b"prtr" if channels == 4 else b"scnr", b"Lab ", tags)


def cmyk_profile():
    """A CMYK profile whose lightness decreases with the amount of ink, without any chroma."""
    return table_profile(b"CMYK", 4, lambda ink: (max(0, 255 - 85 * int(ink.sum())), 128, 128))


def scanner_profile():
    """An RGB profile with the conversion to Lab only, not back."""
    return table_profile(b"RGB ", 3, lambda rgb: (85 * int(rgb.sum()), 128, 128))


def exif(orientation, *, gps=False):
    """An EXIF block with an orientation and, optionally, a position."""
    block = Image.Exif()
    block[0x0112] = orientation
    if gps:
        block.get_ifd(0x8825).update({1: "N", 2: (52.0, 30.0, 0.0)})
        block[0x010E] = "a private description"
    return block


# What a viewer shows for the stored pixels, by the definition of the EXIF tag (row 0 and column 0 are ...).
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],  # top, right
    3: lambda a: a[::-1, ::-1],  # bottom, right
    4: lambda a: a[::-1],  # bottom, left
    5: lambda a: np.swapaxes(a, 0, 1),  # left, top
    6: lambda a: np.swapaxes(a[::-1], 0, 1),  # right, top
    7: lambda a: np.swapaxes(a[::-1, ::-1], 0, 1),  # right, bottom
    8: lambda a: np.swapaxes(a[:, ::-1], 0, 1),  # left, bottom
}
