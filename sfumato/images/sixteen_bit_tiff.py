"""TIFF with 16 bits per channel, which Pillow reads and writes if it is grey: its directory is patched."""

import io
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from sfumato.images.samples import Samples16, content
from sfumato.images.tiff import entries, tiff_bytes

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _ORIENTATION, _SAMPLES_TAG, _PLANES, _PREDICTOR = (
    256, 257, 258, 259, 262, 274, 277, 284, 317,
)  # fmt: skip
_TILE_WIDTH, _EXTRA, _FORMAT = 322, 338, 339
_SHORT, _LONG = 3, 4
#: ExtraSamples of an alpha channel whose colours are straight. 0 is no alpha; 1 is colours multiplied by alpha.
_STRAIGHT = 2
#: LZW, Deflate (two codes), LZMA and Zstandard.
_WITH_PREDICTOR = (5, 8, 32946, 34925, 50000)


def tiff_samples(file: BinaryIO, image: Image.Image) -> Samples16 | None:
    """The 16-bit samples of a TIFF in strips, by patching its directory to that of a grey image; None for others.

    Raises:
        Exception: of any type, for a damaged file.
    """
    tags: Any = getattr(image, "tag_v2", {})
    width, height, count = (tags.get(tag, 1) for tag in (_WIDTH, _HEIGHT, _SAMPLES_TAG))
    usual = tags.get(_PHOTOMETRIC) == (1 if count < 3 else 2) and tags.get(_PLANES, 1) == 1 and _TILE_WIDTH not in tags
    straight = count in (1, 3) or _values(tags, _EXTRA, _STRAIGHT) == {_STRAIGHT}
    unsigned = _values(tags, _BITS, 1) == {16} and _values(tags, _FORMAT, 1) == {1}
    # Pillow's size, which has been checked, is upright.
    if count > 4 or not (usual and straight and unsigned) or {width, height} != set(image.size):
        return None
    values = {
        _WIDTH: width * count,
        _BITS: 16,
        _PHOTOMETRIC: 1,
        _ORIENTATION: 1,
        _SAMPLES_TAG: 1,
        _PREDICTOR: 1,
        _FORMAT: 1,
        _EXTRA: None,
    }
    patched = _patched(content(file, width * height * count), values)
    if patched is None:
        return None
    with TiffImageFile(io.BytesIO(patched)) as grey:  # Image.open would compare width * count with its limit
        grey.load()
        if not grey.mode.startswith("I;16") or grey.size != (width * count, height):
            return None
        samples = np.asarray(grey).astype(np.uint16).reshape(height, width, count)
    if tags.get(_PREDICTOR, 1) == 2 and tags.get(_COMPRESSION) in _WITH_PREDICTOR:
        samples = np.cumsum(samples, axis=1, dtype=np.uint16)
    return samples[..., 0] if count == 1 else samples


def _values(tags: Mapping[int, Any], tag: int, default: int) -> set[int]:
    """The different values of a tag."""
    found = tags.get(tag, default)
    return set(found) if isinstance(found, tuple) else {found}


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


def encode_tiff(samples: Samples16, exif: bytes = b"", tags: Mapping[int, Any] | None = None, **options: Any) -> bytes:
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
