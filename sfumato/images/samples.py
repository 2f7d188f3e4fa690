"""Conversion of arrays to images, and images with more than 8 bits per channel."""

import os
from collections.abc import Callable
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sfumato.errors import BadInput

Samples16: TypeAlias = NDArray[np.uint16]
"""Samples [h, w] or [h, w, c]: grey, grey and alpha, RGB, or RGB and alpha."""

#: Since a file is read completely, its size is limited to twice the bytes of its samples plus this number of bytes.
_MOST_OTHER_BYTES = 64 << 20
#: The TIFF tag PhotometricInterpretation, and its value for greys whose 0 is white.
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0
_IN_EIGHT = "read in 8 bits"


def from_array(pixels: NDArray[Any]) -> Image.Image:
    """Convert an array uint8 [h, w] (grey), [h, w, 3] (sRGB) or [h, w, 4] (with straight alpha) to a Pillow image.

    Raises:
        BadInput: the array has another dtype or shape.
    """
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and channels not in (3, 4)):
        raise BadInput(
            "An image given as an array must be uint8 of shape [h, w], [h, w, 3] or [h, w, 4], "
            f"not {pixels.dtype} {list(pixels.shape)}."
        )
    if pixels.size == 0:
        raise BadInput(f"the given image is {pixels.shape[1]} x {pixels.shape[0]} pixels: the image is empty.")
    return Image.fromarray(pixels)


def depth_note(image: Image.Image) -> str:
    """Note for an image with more than 8 bits per channel, else ""; call it before the pixels are decoded."""
    if image.mode == "F":
        return f"32-bit floating-point samples, {_IN_EIGHT}"
    if image.mode.startswith("I;16") or any(order in _raw_modes(image) for order in (";16B", ";16L", ";16N")):
        return f"16 bits per channel, {_IN_EIGHT}"
    if image.format == "HEIF" and (bits := image.info.get("bit_depth", 8)) > 8:
        return f"{bits} bits per channel, {_IN_EIGHT}"
    return f"more than 8 bits per channel, {_IN_EIGHT}" if image.mode == "I" else ""


def grey_tiff(image: Image.Image) -> Callable[[Image.Image], Image.Image]:
    """The function that normalises decoded grey pixels: 0 is black, and 65535 (integers) or 1 (floats) is white.

    Pillow does not invert 16-bit and floating-point TIFF images whose 0 is white, and decodes 12-bit images to 0..4095.
    Call this before the pixels are decoded.
    """
    tags: Any = getattr(image, "tag_v2", {})
    twelve = "I;12" in _raw_modes(image)
    negative = tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO and (image.mode.startswith("I;16") or image.mode == "F")
    if not twelve and not negative:
        return lambda decoded: decoded

    def convert(decoded: Image.Image) -> Image.Image:
        values = np.asarray(decoded)
        if twelve:
            values = np.rint(values * (65535 / 4095)).astype(np.uint16)
        if negative:
            values = np.subtract(1 if values.dtype.kind == "f" else 65535, values, dtype=values.dtype)
        converted = Image.fromarray(values.astype(values.dtype.newbyteorder("=")))
        converted.info = decoded.info
        return converted

    return convert


def transparent_colour(image: Image.Image) -> tuple[Any, str]:
    """The transparent colour (`info["transparency"]`) in the levels of the decoded pixels, and a note.

    A PNG specifies one transparent colour in the depth of the file (section 11.3.2.1 of the standard). Pillow scales 2-
    and 4-bit greys to 8 bits when it decodes them, but not the transparent colour. Of 16-bit colours it keeps the upper
    8 bits, in which the transparent colour equals its neighbours. Call this before the pixels are decoded.
    """
    key, raw = image.info.get("transparency"), _raw_modes(image)
    if image.mode == "L" and isinstance(key, int) and raw in ("L;2", "L;4"):
        levels = 2 ** int(raw[-1])
        return key % levels * 255 // (levels - 1), ""
    if image.mode == "RGB" and isinstance(key, tuple) and raw == "RGB;16B":
        return None, "the transparent colour of 16 bits per channel is ambiguous in 8 bits: read as opaque"
    return key, ""


def _raw_modes(image: Image.Image) -> str:
    """Pillow's names of the sample layout in the file; those of 16 bits end in ;16 and a byte order."""
    return " ".join(str(tile[3]) for tile in getattr(image, "tile", []))


def content(file: BinaryIO, samples: int) -> bytes:
    """All bytes of a file with this number of 16-bit samples. Raises ValueError if it is far larger than these."""
    if file.seek(0, os.SEEK_END) > 4 * samples + _MOST_OTHER_BYTES:
        raise ValueError("the file is much larger than its samples")
    file.seek(0)
    return file.read()
