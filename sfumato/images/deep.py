"""Files with 16 bits per channel, which Pillow reads as 8 bits unless they are grey: their samples as they are stored.

PNG is decoded here (section 9 of the standard). A TIFF in strips is decoded by libtiff, as a grey image with all
samples of a row next to each other.
"""

import io
import struct
import zlib
from collections.abc import Mapping
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sfumato.images.tiff import entries, tiff_bytes

Deep: TypeAlias = NDArray[np.uint16]
"""Samples [h, w] or [h, w, c]: grey, grey and alpha, RGB, or RGB and alpha."""

_PNG = b"\x89PNG\r\n\x1a\n"
#: Colour type of a PNG -> samples per pixel.
_SAMPLES = {0: 1, 2: 3, 4: 2, 6: 4}
_WIDTH, _BITS, _PHOTOMETRIC, _SAMPLES_TAG, _PLANES, _PREDICTOR, _EXTRA, _FORMAT = (
    256, 258, 262, 277, 284, 317, 338, 339,
)  # fmt: skip
_SHORT, _LONG = 3, 4
_COMPRESSION = 259
#: LZW, Deflate (two codes), LZMA and Zstandard.
_WITH_PREDICTOR = (5, 8, 32946, 34925, 50000)


def deep_samples(image: Image.Image) -> Deep | None:
    """The 16-bit samples of an opened file, whose pixels need not be decoded.

    Returns:
        The samples, not yet upright; None for files with other depths, interlaced PNG, tiled TIFF and TIFF with
        separate planes.
    """
    file: BinaryIO | None = getattr(image, "fp", None)
    if file is None or image.format not in ("PNG", "TIFF"):
        return None
    before = file.tell()
    try:
        file.seek(0)
        return _of_png(file.read()) if image.format == "PNG" else _of_tiff(file.read(), image)
    except Exception:  # damage is reported when Pillow decodes the file
        return None
    finally:
        file.seek(before)


def eight_bits(samples: Deep) -> NDArray[np.uint8]:
    """The nearest levels of 8 bits, v / 257."""
    return ((samples.astype(np.uint32) * 255 + 32_895) >> 16).astype(np.uint8)


def _of_png(data: bytes) -> Deep | None:
    if len(data) < 33 or data[:8] != _PNG:
        return None
    width, height, bits, colour, _, _, interlaced = struct.unpack(">IIBBBBB", data[16:29])
    if bits != 16 or colour not in _SAMPLES or interlaced:
        return None
    step, place, parts = 2 * _SAMPLES[colour], 8, []
    while place + 8 <= len(data):
        length, kind = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]
        if kind == b"tRNS" and colour != 0:
            return None  # a transparent colour, which Pillow's 8 bits do not determine
        if kind == b"IDAT":
            parts.append(data[place + 8 : place + 8 + length])
        place += 12 + length
    stored = zlib.decompressobj().decompress(b"".join(parts), height * (1 + width * step))
    rows = np.frombuffer(stored, np.uint8).reshape(height, 1 + width * step)
    samples = _unfiltered(rows[:, 1:].reshape(height, width, step), rows[:, 0])
    found = samples.reshape(height, -1).view(">u2").astype(np.uint16).reshape(height, width, -1)
    return found[..., 0] if step == 2 else found


def _unfiltered(rows: NDArray[np.uint8], kinds: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Undo the filters of a PNG (None, Sub, Up, Average, Paeth) of rows [h, w, bytes of a pixel].

    A byte depends on those of the pixels to the left, above, and above left. Pixels of an antidiagonal, x + y = d, are
    independent of each other, so that w + h - 1 steps are sufficient; they are at equal distances in memory.
    """
    height, width, step = rows.shape
    if kinds.max() > 4:
        raise ValueError("no such filter")
    if not kinds.any():
        return rows
    rows, out = np.ascontiguousarray(rows), np.empty(rows.shape, np.uint8)
    kind = kinds[:, None]
    nothing = np.zeros((height + 1, step), np.int16)
    last, before = nothing, nothing  # of the antidiagonals d - 1 and d - 2: row y + 1 has the pixel of row y
    for d in range(height + width - 1):
        top, bottom = max(0, d - width + 1), min(height, d + 1)
        left, up, corner, of = last[top + 1 : bottom + 1], last[top:bottom], before[top:bottom], kind[top:bottom]
        estimate = left + up - corner
        a, b, c = abs(estimate - left), abs(estimate - up), abs(estimate - corner)
        paeth = np.where((a <= b) & (a <= c), left, np.where(b <= c, up, corner))
        predicted = np.where(
            of == 4, paeth, np.where(of == 3, (left + up) >> 1, np.where(of == 2, up, left * (of == 1)))
        )
        found = (_antidiagonal(rows, d, top, bottom) + predicted) & 255
        _antidiagonal(out, d, top, bottom)[:] = found
        last, before = nothing.copy(), last
        last[top + 1 : bottom + 1] = found
    return out


def _antidiagonal(pixels: NDArray[np.uint8], d: int, top: int, bottom: int) -> NDArray[np.uint8]:
    """A view of the pixels [y, d - y] for y from `top` to `bottom` - 1, [bottom - top, bytes of a pixel]."""
    down, right, byte = pixels.strides
    start = pixels[top, d - top]
    return np.lib.stride_tricks.as_strided(start, (bottom - top, pixels.shape[2]), (down - right, byte))


def _of_tiff(data: bytes, image: Image.Image) -> Deep | None:
    """The samples of a TIFF in strips, by patching its directory to that of a grey image."""
    tags: Any = getattr(image, "tag_v2", {})
    bits, count = tags.get(_BITS, (1,)), tags.get(_SAMPLES_TAG, 1)
    bits = bits if isinstance(bits, tuple) else (bits,)
    usual = tags.get(_PHOTOMETRIC) == (1 if count < 3 else 2) and tags.get(_PLANES, 1) == 1
    formats = tags.get(_FORMAT, (1,))
    unsigned = set(formats if isinstance(formats, tuple) else (formats,)) == {1}
    if set(bits) != {16} or count > 4 or not usual or not unsigned or 322 in tags:
        return None
    values = {
        _WIDTH: image.width * count,
        _BITS: 16,
        _PHOTOMETRIC: 1,
        _SAMPLES_TAG: 1,
        _PREDICTOR: 1,
        _FORMAT: 1,
        _EXTRA: None,
    }
    patched = _patched(data, values)
    if patched is None:
        return None
    with Image.open(io.BytesIO(patched), formats=("TIFF",)) as grey:
        grey.load()
        if not grey.mode.startswith("I;16") or grey.size != (image.width * count, image.height):
            return None
        samples = np.asarray(grey).astype(np.uint16).reshape(image.height, image.width, count)
    if tags.get(_PREDICTOR, 1) == 2 and tags.get(_COMPRESSION) in _WITH_PREDICTOR:
        samples = np.cumsum(samples, axis=1, dtype=np.uint16)
    return samples[..., 0] if count == 1 else samples


def _patched(data: bytes, values: dict[int, int | None]) -> bytes | None:
    """A classic TIFF whose first directory has these single values; tags with None become private ones."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None:
        return None
    out = bytearray(data)
    for entry, tag in entries(data):
        if tag not in values:
            continue
        value = values[tag]
        if value is None:  # 65000 and above are private; it need not be in order
            struct.pack_into(order + "HHIHH", out, entry, tag, 7, 2, 0, 0)
            struct.pack_into(order + "H", out, entry, 65_000)
        elif value < 1 << 16:
            struct.pack_into(order + "HHIHH", out, entry, tag, _SHORT, 1, value, 0)
        else:
            struct.pack_into(order + "HHII", out, entry, tag, _LONG, 1, value)
    return bytes(out)


def encode_png(samples: Deep, *extra: bytes) -> bytes:
    """A PNG with 16 bits per channel; `extra` are complete chunks before the pixels."""
    height, width = samples.shape[:2]
    channels = 1 if samples.ndim == 2 else samples.shape[2]
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    bytes_of_rows = samples.astype(">u2").tobytes()
    rows = np.frombuffer(bytes_of_rows, np.uint8).reshape(height, -1)
    difference = rows.copy()  # filter 2, "Up": fast, and good for photographs
    difference[1:] -= rows[:-1]
    filtered = np.concatenate([np.full((height, 1), 2, np.uint8), difference], axis=1).tobytes()
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + b"".join(extra) + chunk(b"IDAT", zlib.compress(filtered, 6))
    return _PNG + body + chunk(b"IEND", b"")


def chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def encode_tiff(samples: Deep, exif: bytes = b"", tags: Mapping[int, Any] | None = None, **options: Any) -> bytes:
    """A TIFF with 16 bits per channel: written by Pillow as a grey image, whose directory is then patched.

    Args:
        samples: grey and alpha are written as RGB and alpha, because few programs read them in 16 bits.
        exif: an EXIF block, b"" for none.
        tags: further tags.
        options: for Pillow: dpi, icc_profile.
    """
    if samples.ndim == 3 and samples.shape[2] == 2:
        samples = samples[..., [0, 0, 0, 1]]
    height, width = samples.shape[:2]
    channels = 1 if samples.ndim == 2 else samples.shape[2]
    image = Image.frombytes("I;16", (width * channels, height), samples.astype("<u2").tobytes())
    tags = {_SAMPLES_TAG: 1, **(tags or {})} | ({_EXTRA: 2} if channels == 4 else {})
    written = tiff_bytes(image, exif, tags, **options)
    if channels == 1:
        return written
    data = bytearray(written)
    place = len(data) + len(data) % 2
    data += bytes(place - len(data)) + struct.pack(f"<{channels}H", *[16] * channels)
    patched = _patched(bytes(data), {_WIDTH: width, _SAMPLES_TAG: channels, _PHOTOMETRIC: 2})
    if patched is None:
        raise ValueError("Pillow wrote another kind of TIFF")
    return _with_bits(bytearray(patched), place, channels)


def _with_bits(data: bytearray, place: int, channels: int) -> bytes:
    """BitsPerSample with one value for every channel; the values are at `place`."""
    for entry, tag in entries(data):
        if tag == _BITS:
            struct.pack_into("<HHII", data, entry, _BITS, _SHORT, channels, place)
    return bytes(data)
