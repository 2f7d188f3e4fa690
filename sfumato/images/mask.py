"""Masks, which restrict the region of an edit: white selects the edit, black the source, grey levels mix both."""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sfumato.errors import BadInput
from sfumato.images.mask_checks import IS, refuse_colours, refuse_hole, refuse_picture
from sfumato.images.read import DEEP_MODES, MAX_PIXELS, Source, open_upright, split_alpha

MaskSource: TypeAlias = "Source | Mask | NDArray[np.bool_]"

#: The brightest level must be at least this share of white, unless the mask has two levels only.
_FAINT = 0.1
#: Levels of a JPEG this close to black or white are read as black or white: compression changes them.
_COMPRESSION = 8
_LOSSY = ("JPEG", "MPO")
#: Share of grey pixels above which a note says what greys mean.
_MANY_GREYS = 0.3


@dataclass(frozen=True, eq=False)
class Mask:
    """A validated mask.

    Attributes:
        weights: weight of the edit in the result, float32 [h,w], multiples of 1/255. Pixels of weight 0 are identical
            to the source.
        name: printable name of the file, "the given image" for an image without a file; "" for a computed mask.
        sha256: SHA-256 of size and levels, in hexadecimal; "" for a computed mask.
        note: remark on the interpretation of the file, "" if there is none.
    """

    weights: NDArray[np.float32]
    name: str = ""
    sha256: str = ""
    note: str = ""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        height, width = self.weights.shape
        return width, height


def read_mask(source: MaskSource, size: tuple[int, int], max_pixels: int = MAX_PIXELS, *, as_is: bool = False) -> Mask:
    """Read a mask and validate it.

    Transparent parts count as black. A mask of two levels, of which the brighter is at most 1/255 of white (0 and 1 in
    8 bits, as segmentation tools write it), is read as black and white.

    Args:
        source: as in `read_image`; a bool array [h,w]; or a mask that was read before.
        size: (width, height) of the upright image that the mask belongs to.
        max_pixels: as in `read_image`.
        as_is: accept grey levels that look like a greyscale picture, such as those of a noisy heat map.

    Raises:
        BadInput: the mask cannot be read, its size differs from `size`, it is coloured, nearly black or a greyscale
            picture.
    """
    if isinstance(source, np.ndarray) and source.dtype == np.bool_:
        source = source.astype(np.uint8) * np.uint8(255)
    if isinstance(source, Mask):
        _check_size(source.name or "the mask", source.size, size)
        return source
    found = open_upright(source, max_pixels)
    image, name, file_format = found.image, found.name, found.file_format
    _check_size(name, image.size, size)
    values, white, alpha = _grey_values(image, name)
    shares, notes = _shares(values, white, name)
    if alpha is not None:
        refuse_hole(_eight_bits(shares), alpha, name)
        shares = shares * (alpha.astype(np.float64) / 255)
    levels = _eight_bits(shares)
    if lossy := file_format in _LOSSY:
        levels[levels <= _COMPRESSION] = 0
        levels[levels >= 255 - _COMPRESSION] = 255
    if not as_is:
        refuse_picture(levels, name, lossy=lossy)
    note = "; ".join([*notes, *_grey_note(levels)])
    return Mask((levels / 255).astype(np.float32), name, _fingerprint(levels), note)


def painted_mask(source: MaskSource, size: tuple[int, int], *, as_is: bool = False) -> Mask:
    """Read a mask that restricts an edit.

    Args:
        source: image file, Pillow image or array, white where the edit applies; greys mix edit and source.
        size: (width, height) of the image in pixels.
        as_is: as in `read_mask`.

    Raises:
        BadInput: a mask of another size, one that cannot be read, an image instead of a mask, or a black mask.
    """
    # The image may have been read with a raised max_pixels, so the limit is at least the size of the image.
    mask = read_mask(source, size, max(MAX_PIXELS, size[0] * size[1]), as_is=as_is)
    if not mask.weights.any():
        raise BadInput(
            "The mask is black everywhere (transparent parts count as black): paint white the area that the edit "
            "should change."
        )
    return mask


def transparent_parts(source: Source, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The mask of the transparent parts of an image, as inpainting tools read it: white where the alpha channel is 0.

    Args:
        source: as in `read_image`.
        max_pixels: as in `read_image`.

    Returns:
        Pillow image of mode L, 255 - alpha.

    Raises:
        BadInput: the image cannot be read, or is opaque.
    """
    found = open_upright(source, max_pixels)
    name = found.name
    _, alpha = split_alpha(found.image, name)
    if alpha is None or alpha.min() == 255:
        raise BadInput(f"{name} has no transparent parts: give a mask, {IS.removeprefix('a mask is ')}.")
    mask = Image.fromarray(255 - alpha)
    mask.filename = name  # messages name the file
    return mask


def _check_size(name: str, found: tuple[int, int], wanted: tuple[int, int]) -> None:
    if found != tuple(wanted):
        raise BadInput(
            f"mask {name} is {found[0]} x {found[1]} pixels and the image {wanted[0]} x {wanted[1]}: "
            "make the mask the size of the image."
        )


def _grey_values(image: Image.Image, name: str) -> tuple[NDArray[Any], float, NDArray[np.uint8] | None]:
    """The levels of a mask [h,w] in the depth of its file, the level of white, and the alpha channel or None.

    The colour profile is not applied, because the levels of a mask are weights, not colours.
    """
    opaque, alpha = split_alpha(image, name)
    if image.mode in DEEP_MODES:
        values = np.asarray(image)
        return values, 1.0 if values.dtype.kind == "f" else 65535.0, alpha
    rgb = opaque.convert("RGB")
    refuse_colours(np.asarray(rgb), alpha, name)
    return np.asarray(rgb.convert("L")), 255.0, alpha


def _shares(values: NDArray[Any], white: float, name: str) -> tuple[NDArray[np.float64], list[str]]:
    """The levels as shares of white, and notes. Raises BadInput for masks that are nearly black."""
    levels, top = values.astype(np.float64), values.max()
    shown = f"{top:.4g} of {white:g}"
    if 0 < top <= white / 255 and ((values == 0) | (values == top)).all():
        return levels / float(top), [f"its levels are 0 and {shown}: read as black and white"]
    if 0 < top < _FAINT * white:
        raise BadInput(
            f"mask {name} is nearly black, its brightest level is {shown}: {IS}. Multiply its levels by "
            f"{white / top:.4g}, or, if they number objects, paint the objects to edit white."
        )
    if 0 < top < 0.99 * white:
        percent = 100 * float(top) / white
        return levels / white, [f"its brightest level is {shown}: the edit is mixed in by at most {percent:.0f} %"]
    return levels / white, []


def _grey_note(levels: NDArray[np.uint8]) -> Iterator[str]:
    """A note for a mask with many grey pixels."""
    share = float(((levels > 0) & (levels < 255)).mean())
    if share > _MANY_GREYS:
        yield f"{100 * share:.0f} % of its pixels are grey, where edit and source are mixed"


def _eight_bits(shares: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.rint(shares * 255).astype(np.uint8)


def _fingerprint(levels: NDArray[np.uint8]) -> str:
    header = "x".join(map(str, levels.shape[::-1])).encode()
    return sha256(header + levels.tobytes()).hexdigest()
