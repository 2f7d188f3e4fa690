"""Scale images to a fixed size: uint8 [3, size, size], sRGB on white."""

from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
from PIL import Image

from sfumato.images.read import opened

#: The longest side of a drawing's bounding box as a fraction of the image: 112 of 128 pixels.
CONTENT = (112, 128)


#: File format and largest size of corpus images. Those that sfumato writes have at most 1024 x 1024 pixels.
FORMATS, _MOST_PIXELS = ("PNG",), 4096**2


def open_drawing(path: Path) -> AbstractContextManager[Image.Image]:
    """Open an image of the corpus without loading its pixels. Raises BadInput if it is not a PNG or too large."""
    return opened(path, _MOST_PIXELS, FORMATS)


def on_white(image: Image.Image) -> Image.Image:
    """Convert to RGB, with transparent pixels composited on white."""
    rgba = image.convert("RGBA")
    page = Image.new("RGBA", rgba.size, "white")
    return Image.alpha_composite(page, rgba).convert("RGB")


def centred_drawing(image: Image.Image, bbox: tuple[int, int, int, int], size: int) -> np.ndarray:
    """Crop a drawing to its bounding box, scale it and centre it on a white square.

    Styles fill different fractions of their canvas. Afterwards the longest side of every drawing has the same length,
    which aligns the same content across styles, and every image has a margin.

    Args:
        image: the drawing.
        bbox: (left, top, right, bottom) in pixels; right and bottom exclusive.
        size: side of the result in pixels.

    Returns:
        uint8 [3,size,size].
    """
    left, top, right, bottom = centred_box(bbox, size)
    drawing = on_white(image).resize((right - left, bottom - top), Image.Resampling.LANCZOS, box=bbox)
    page = Image.new("RGB", (size, size), "white")
    page.paste(drawing, (left, top))
    return _channels_first(page)


def centred_box(bbox: tuple[int, int, int, int], size: int) -> tuple[int, int, int, int]:
    """Bounding box of a drawing in the image that `centred_drawing` makes of it."""
    left, top, right, bottom = bbox
    scale = size * CONTENT[0] / CONTENT[1] / max(right - left, bottom - top)
    width, height = (max(1, round(side * scale)) for side in (right - left, bottom - top))
    left, top = (size - width) // 2, (size - height) // 2
    return left, top, left + width, top + height


def centre_square(image: Image.Image, size: int) -> np.ndarray:
    """Crop an image without alpha to its centre square and scale it: uint8 [3,size,size]."""
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    box = (left, top, left + side, top + side)
    square = image.convert("RGB").crop(box)  # resize(box=...) would mix pixels from outside the square into its edges
    return _channels_first(square.resize((size, size), Image.Resampling.LANCZOS))


def _channels_first(image: Image.Image) -> np.ndarray:
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))
