"""Write images with the alpha, colour profile, bit depth, EXIF and resolution of the source file, and with the recipe.

Files are written atomically.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sfumato.errors import BadInput
from sfumato.files import check_writable, write_bytes
from sfumato.images.encode import encoded_16_bit, encoded_image, kept_metadata, with_recipe
from sfumato.images.loaded_image import LoadedImage
from sfumato.images.read import display_name
from sfumato.images.recipe import recipe_text

if TYPE_CHECKING:
    from torch import Tensor

# Extension -> Pillow's format and save options.
OUTPUT_FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", {}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".webp": ("WEBP", {"lossless": True, "exact": True}),
    ".tif": ("TIFF", {}),
    ".tiff": ("TIFF", {}),
    ".bmp": ("BMP", {}),
    ".gif": ("GIF", {"optimize": False}),
}
_WITH_ALPHA = ("PNG", "WEBP", "TIFF", "GIF")
_WITH_PROFILE = ("PNG", "WEBP", "TIFF", "JPEG")
_WITH_16_BITS = ("PNG", "TIFF")
_CHANGES_PIXELS = ("JPEG",)
_LONGEST_SIDE = {"JPEG": 65_500, "WEBP": 16_383, "GIF": 65_535}


def check_output(path: str | os.PathLike[str], size: tuple[int, int] | None = None) -> Path:
    """Check, before any work, that `write_image` can write to a path.

    Args:
        path: output file.
        size: (width, height) of the image, if it is known.

    Returns:
        The path with links resolved.

    Raises:
        BadInput: the extension is unknown, the path cannot be written, or the format does not support the size.
    """
    name = display_name(path)
    known = ", ".join(OUTPUT_FORMATS)
    extension = _extension(path)
    if extension not in OUTPUT_FORMATS:
        raise BadInput(f"{name}: the output's extension must be one of {known}.")
    target = check_writable(path, "an image file")
    file_format = OUTPUT_FORMATS[extension][0]
    longest = _LONGEST_SIDE.get(file_format)
    if size is not None and longest is not None and max(size) > longest:
        raise BadInput(f"{name}: {file_format} supports at most {longest} pixels a side: write a .png instead.")
    return target


def write_image(
    path: str | os.PathLike[str],
    rgb: "NDArray[np.uint8] | Tensor",
    like: LoadedImage | None = None,
    recipe: Mapping[str, Any] | None = None,
    *,
    masked: bool = False,
    keep_gps: bool = False,
) -> str:
    """Write an image atomically, in the format of the extension.

    PNG and TIFF have 16 bits per channel if the source has. GIF has at most 256 colours.

    Args:
        path: output file.
        rgb: sRGB pixels, uint8 [h, w, 3], or float [1, 3, h, w] in [-1, 1].
        like: the source image, whose alpha, colour profile, resolution and EXIF are restored.
        recipe: stored in the metadata; None writes no text.
        masked: whether some pixels are meant to be identical to those of the source.
        keep_gps: keep the GPS position in the source's EXIF.

    Returns:
        A note on data that the format cannot store or that was omitted, "" if there is none.

    Raises:
        BadInput: the path, size or shape cannot be written.
        NonFinite: the pixels contain NaN or infinity.
    """
    pixels = _as_uint8(rgb)
    height, width = pixels.shape[:2]
    target = check_output(path, (width, height))
    if like is not None and like.size != (width, height):
        raise BadInput(f"the result is {width} x {height} pixels and the source {like.size[0]} x {like.size[1]}.")
    file_format, options = OUTPUT_FORMATS[_extension(path)]
    image, icc, notes = _assemble(pixels, like, file_format)
    options = {**options, **kept_metadata(like, file_format, icc, keep_gps, notes)}
    text = None if recipe is None else recipe_text(recipe)
    if text is not None:
        options |= with_recipe(text, file_format, notes)
    if masked and file_format in _CHANGES_PIXELS:
        notes.append(f"{file_format} changes pixels outside the mask, too: write a .png to keep them unchanged")
    if icc is not None:
        options = {**options, "icc_profile": icc}
    if like is not None and like.samples16 is not None and file_format in _WITH_16_BITS:
        encoded: bytes | memoryview = encoded_16_bit(like.restore_16_bit(pixels), file_format, options)
    else:
        encoded = encoded_image(image, file_format, options, notes)
    write_bytes(target, encoded)
    return "; ".join(notes)


def _extension(path: str | os.PathLike[str]) -> str:
    return os.path.splitext(os.fspath(path))[1].lower()


def _as_uint8(rgb: "NDArray[np.uint8] | Tensor") -> NDArray[np.uint8]:
    if not isinstance(rgb, np.ndarray):
        from sfumato.images.tensors import to_uint8

        return to_uint8(rgb)
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or 0 in rgb.shape:
        raise BadInput(f"uint8 pixels of shape [h, w, 3] are needed, not {rgb.dtype} {list(rgb.shape)}.")
    return rgb


def _assemble(
    rgb: NDArray[np.uint8], like: LoadedImage | None, file_format: str
) -> tuple[Image.Image, bytes | None, list[str]]:
    """The image to save, the profile to embed, and notes on what the format cannot store."""
    if like is None:
        return Image.fromarray(np.ascontiguousarray(rgb)), None, []
    notes = []
    keep_alpha = like.alpha is not None and file_format in _WITH_ALPHA
    if like.alpha is not None and not keep_alpha:
        notes.append(f"{file_format} cannot store transparency: written on the background {like.background}")
    keep_profile = like.icc is not None and file_format in _WITH_PROFILE
    if like.icc is not None and not keep_profile:
        notes.append(f"{file_format} cannot store the colour profile: written as sRGB")
    colours = like.restore(rgb, alpha=keep_alpha, profile=keep_profile)
    if like.grey and not keep_profile and (colours == colours[..., :1]).all():
        colours = colours[..., :1]
    if keep_alpha and like.alpha is not None:
        colours = np.concatenate([colours, like.alpha[..., None]], axis=-1)
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[colours.shape[2]]
    image = Image.frombytes(mode, like.size, np.ascontiguousarray(colours).tobytes())
    return image, like.icc if keep_profile else None, notes
