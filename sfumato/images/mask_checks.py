"""Checks that refuse pictures given as masks: images in colour, greyscale pictures, and pictures with a hole."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from sfumato.errors import BadInput

IS = "a mask is black and white or grey, white where the image may change"
_TRANSPARENT = "--mask-transparent (in Python: sfumato.images.transparent_parts)"
_AS_IS = "--mask-as-is (in Python: sfumato.images.read_mask(..., as_is=True))"

#: A pixel is coloured if its channels differ by more levels than this.
_CHROMA = 32
#: Largest share of coloured pixels in a mask.
_COLOURED = 0.001
#: Visible parts have one colour if this share of their pixels differs from the median by at most _CHROMA.
_UNIFORM = 0.9
#: A level is grey if it differs from the darkest and the brightest level by more than this, of 255.
_MARGIN = 16
#: Largest share of grey among the opaque pixels of a mask with transparent parts, unless all have the same level.
_GREY_BESIDE_HOLE = 0.1
#: Smaller masks, in pixels, and masks with less contrast, in levels, are not examined for details of a picture.
_LEAST_PIXELS, _LEAST_CONTRAST = 1024, 64
#: Largest side in pixels of the reduced mask in which details are counted, and number of rows for the sharpness.
_SIDE, _ROWS = 128, 512
#: Width in pixels of a detail, and its least difference from its surroundings in levels: in a JPEG, whose compression
#: adds details beside edges, and in other files.
_WIDTH, _IN_JPEG, _DETAIL = 5, 40, 24
#: Second difference of the levels of neighbours above which a transition is sharper than that of a blurred edge.
_SHARP = 5
#: A picture has at least this share of grey pixels, of pixels with grey neighbours only, of details among them, and of
#: sharp transitions among its grey pixels. A blurred edge has no sharp transitions, and a ramp no details.
_GREY, _INNER, _DETAILS, _TRANSITIONS = 0.2, 0.2, 0.02, 0.015


def refuse_colours(rgb: NDArray[np.uint8], alpha: NDArray[np.uint8] | None, name: str) -> None:
    """Refuse an image in colour.

    Args:
        rgb: levels, [h,w,3].
        alpha: alpha channel [h,w], or None.
        name: printable name of the mask.

    Raises:
        BadInput: more than 0.1 % of the pixels are visible and coloured.
    """
    chroma = rgb.max(axis=-1) - rgb.min(axis=-1)
    visible = np.ones(chroma.shape, dtype=bool) if alpha is None else alpha > 0
    if (chroma[visible] > _CHROMA).sum() <= _COLOURED * chroma.size:
        return
    if visible.all():
        raise BadInput(f"mask {name} is an image in colour, not a mask: {IS}.")
    if _has_one_colour(rgb[visible]):
        raise BadInput(
            f"mask {name} has a colour on a transparent ground: {IS}. Paint the coloured area white to edit it."
        )
    raise BadInput(
        f"mask {name} is an image with transparent parts, not a mask: {IS}. To edit the transparent parts, add "
        f"{_TRANSPARENT}."
    )


def refuse_hole(levels: NDArray[np.uint8], alpha: NDArray[np.uint8], name: str) -> None:
    """Refuse a greyscale picture with transparent parts, whose user probably wants to edit these parts.

    Args:
        levels: levels without the alpha channel, [h,w].
        alpha: alpha channel, [h,w].
        name: printable name of the mask.

    Raises:
        BadInput: parts are transparent, and the opaque pixels have several levels, with more than 10 % grey ones.
    """
    opaque = levels[alpha >= 128]
    if alpha.all() or not opaque.size or opaque.min() == opaque.max():
        return
    if ((opaque > _MARGIN) & (opaque < 255 - _MARGIN)).mean() > _GREY_BESIDE_HOLE:
        raise BadInput(
            f"mask {name} is a grey image with transparent parts, not a mask: {IS}. To edit the transparent parts, add "
            f"{_TRANSPARENT}; to keep them, paint them black."
        )


def refuse_picture(levels: NDArray[np.uint8], name: str, *, lossy: bool) -> None:
    """Refuse a greyscale photograph or drawing.

    In a mask, grey levels are weights: areas of one level, ramps, blurred edges, and narrow transitions between black
    and white. A picture has narrow details in grey surroundings, such as lines and texture, with sharp edges.

    Args:
        levels: levels of the mask, [h,w].
        name: printable name of the mask.
        lossy: whether the mask is a JPEG.

    Raises:
        BadInput: at least 20 % of the pixels are grey and surrounded by grey, and the share of details among them is
            above the limit.
    """
    low, high = int(levels.min()), int(levels.max())
    if levels.size < _LEAST_PIXELS or high - low < _LEAST_CONTRAST or _grey(levels, low, high).mean() < _GREY:
        return
    details = _IN_JPEG if lossy else _DETAIL
    if _sharp_share(levels, low, high) >= _TRANSITIONS and _has_details(levels, details):
        raise BadInput(
            f"mask {name} is a greyscale picture, not a mask: {IS}. Paint white the area that the edit should change, "
            f"and the rest black; or, if its greys are weights of the edit, add {_AS_IS}."
        )


def _has_one_colour(rgb: NDArray[np.uint8]) -> bool:
    """Whether nearly all pixels [n,3] have the same colour."""
    difference = np.abs(rgb.astype(np.int16) - np.median(rgb, axis=0).astype(np.int16)).max(axis=-1)
    return bool((difference <= _CHROMA).mean() >= _UNIFORM)


def _grey(levels: NDArray[np.uint8], low: int, high: int) -> NDArray[np.bool_]:
    return (levels > low + _MARGIN) & (levels < high - _MARGIN)


def _sharp_share(levels: NDArray[np.uint8], low: int, high: int) -> float:
    """Share of sharp transitions among the grey pixels with grey neighbours to the left and right."""
    rows = levels[:: -(-len(levels) // _ROWS)]
    grey = _grey(rows, low, high)
    inner = grey[:, :-2] & grey[:, 1:-1] & grey[:, 2:]
    found = rows.astype(np.int16)
    second = np.abs(found[:, :-2] - 2 * found[:, 1:-1] + found[:, 2:])
    return float((second[inner] > _SHARP).mean()) if inner.any() else 0.0


def _has_details(levels: NDArray[np.uint8], least: int) -> bool:
    """Whether the mask, reduced to at most 128 pixels, has many narrow details in grey surroundings.

    Details are the pixels that a morphological closing or opening changes by more than `least` levels.
    """
    image = Image.fromarray(levels)
    image = image.reduce(-(-max(image.size) // _SIDE))
    low, high = image.getextrema()
    darkest, brightest = (_filtered(image, each(3)) for each in (ImageFilter.MinFilter, ImageFilter.MaxFilter))
    inner = (darkest > low + _MARGIN) & (brightest < high - _MARGIN)
    dilate, erode = ImageFilter.MaxFilter(_WIDTH), ImageFilter.MinFilter(_WIDTH)
    reduced = np.asarray(image).astype(np.int16)
    closed, opened = _filtered(image, dilate, erode), _filtered(image, erode, dilate)
    dark = (closed - reduced > least) & (closed < high - _MARGIN)
    light = (reduced - opened > least) & (opened > low + _MARGIN)
    return bool(inner.mean() >= _INNER and (dark | light)[inner].mean() >= _DETAILS)


def _filtered(image: Image.Image, *filters: ImageFilter.Filter) -> NDArray[np.int16]:
    for each in filters:
        image = image.filter(each)
    return np.asarray(image).astype(np.int16)
