"""Pictures brought to one size: uint8 [3, size, size], sRGB on white."""

from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
from PIL import Image

from sfumato.images.read import opened

#: The longest side of a drawing's bounding box, as a share of the picture: 112 of 128 pixels.
CONTENT = (112, 128)


#: What the corpus consists of: PNG files, of at most 1024 x 1024 pixels where sfumato made them.
FORMATS, _MOST_PIXELS = ("PNG",), 4096**2


def open_drawing(path: Path) -> AbstractContextManager[Image.Image]:
    """A picture of the corpus, its pixels not yet loaded. Raises BadInput for what is no PNG file, or a large one."""
    return opened(path, _MOST_PIXELS, FORMATS)


def on_white(image: Image.Image) -> Image.Image:
    """RGB, with what is transparent shown as white."""
    rgba = image.convert("RGBA")
    page = Image.new("RGBA", rgba.size, "white")
    return Image.alpha_composite(page, rgba).convert("RGB")


def centred_drawing(image: Image.Image, bbox: tuple[int, int, int, int], size: int) -> np.ndarray:
    """The content of `bbox` (left, top, right, bottom; exclusive), scaled and centred on a white square.

    Styles differ in how much of their canvas they fill; after this all drawings are equally large, which
    aligns the same content across styles and leaves every picture a margin.
    """
    left, top, right, bottom = bbox
    scale = size * CONTENT[0] / CONTENT[1] / max(right - left, bottom - top)
    width, height = (max(1, round(side * scale)) for side in (right - left, bottom - top))
    drawing = on_white(image).resize((width, height), Image.Resampling.LANCZOS, box=bbox)
    page = Image.new("RGB", (size, size), "white")
    page.paste(drawing, ((size - width) // 2, (size - height) // 2))
    return _channels_first(page)


def centre_square(image: Image.Image, size: int) -> np.ndarray:
    """The largest centred square of a picture without alpha, scaled: the field's habit for photographs."""
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    box = (left, top, left + side, top + side)
    square = image.convert("RGB").crop(box)  # resize(box=...) would let the outside shine in at the edges
    return _channels_first(square.resize((size, size), Image.Resampling.LANCZOS))


def _channels_first(image: Image.Image) -> np.ndarray:
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))
