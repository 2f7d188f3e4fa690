"""PNG with 16 bits per channel (sections 9 and 11 of the standard): decoding of its samples, and encoding."""

import struct
import zlib
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sfumato.images.samples import Samples16, content

_PNG = b"\x89PNG\r\n\x1a\n"
#: Colour type of a PNG -> samples per pixel.
_SAMPLES = {0: 1, 2: 3, 4: 2, 6: 4}
#: Largest width + height of a PNG with filters; the number of steps to undo filters is at most width + height.
_MOST_STEPS = 1 << 16


def png_samples(file: BinaryIO, image: Image.Image) -> Samples16 | None:
    """The 16-bit samples of a PNG that Pillow opened; None for another depth, interlacing, or a transparent colour.

    Raises:
        Exception: of any type, for a damaged file.
    """
    file.seek(0)
    head = file.read(29)
    if len(head) < 29 or head[:8] != _PNG:
        return None
    width, height, bits, colour, _, _, interlaced = struct.unpack(">IIBBBBB", head[16:])
    # The size that Pillow found has been checked; it can differ, because Pillow reads a second header, too.
    if bits != 16 or colour not in _SAMPLES or interlaced or (width, height) != image.size:
        return None
    data = content(file, width * height * _SAMPLES[colour])
    step, place, parts = 2 * _SAMPLES[colour], 8, []
    while place + 8 <= len(data):
        length, kind = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]
        if kind == b"tRNS" and colour != 0:
            return None  # a transparent colour, which Pillow's 8 bits do not determine
        if kind == b"IDAT":
            parts.append(data[place + 8 : place + 8 + length])
        place += 12 + length
    stored = zlib.decompressobj().decompress(b"".join(parts), height * (1 + width * step))
    del data, parts
    rows = np.frombuffer(stored, np.uint8).reshape(height, 1 + width * step)
    samples = _unfiltered(rows[:, 1:].reshape(height, width, step), rows[:, 0])
    found = samples.reshape(height, -1).view(">u2").astype(np.uint16).reshape(height, width, -1)
    return found[..., 0] if step == 2 else found


def _unfiltered(rows: NDArray[np.uint8], kinds: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Undo the filters of a PNG (None, Sub, Up, Average, Paeth) of rows [h, w, bytes of a pixel].

    With Average and Paeth a byte depends on those of the pixels to the left, above, and above left. Pixels of an
    antidiagonal, x + y = d, are independent of each other, so that w + h - 1 steps are sufficient; they are at equal
    distances in memory. Otherwise rows are processed one after the other, which is faster.
    """
    height, width, step = rows.shape
    if kinds.max() > 4:
        raise ValueError("no such filter")
    if not kinds.any():
        return rows
    if height + width > _MOST_STEPS:
        raise ValueError("too wide or too high")
    out, kind = np.array(rows, order="C"), kinds[:, None]
    if kinds.max() <= 2:
        for y, each in enumerate(kinds):
            if each == 1:
                np.cumsum(out[y], axis=0, dtype=np.uint8, out=out[y])
            elif each == 2 and y:
                out[y] += out[y - 1]
        return out
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
        pixels = _antidiagonal(out, d, top, bottom)
        found = (pixels + predicted) & 255
        pixels[:] = found
        last, before = nothing.copy(), last
        last[top + 1 : bottom + 1] = found
    return out


def _antidiagonal(pixels: NDArray[np.uint8], d: int, top: int, bottom: int) -> NDArray[np.uint8]:
    """A view of the pixels [y, d - y] for y from `top` to `bottom` - 1, [bottom - top, bytes of a pixel]."""
    down, right, byte = pixels.strides
    start = pixels[top, d - top]
    return np.lib.stride_tricks.as_strided(start, (bottom - top, pixels.shape[2]), (down - right, byte))


def encode_png(samples: Samples16, *extra: bytes) -> bytes:
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
