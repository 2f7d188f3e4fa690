"""Reading and writing of image files: EXIF orientation, colour profile, alpha, size limits and the embedded recipe."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sfumato.images.mask import Mask, read_mask, transparent_parts
from sfumato.images.picture import Picture
from sfumato.images.read import MAX_PIXELS, read_image
from sfumato.images.recipe import read_recipe
from sfumato.images.write import OUTPUT_FORMATS, check_output, write_image

if TYPE_CHECKING:
    from sfumato.images.sheet import contact_sheet
    from sfumato.images.tensors import Padding, crop_back, pad_to_grid, to_tensor, to_uint8

# Imported at first use: these need torch or are rarely needed.
_LAZY = {
    "Padding": "sfumato.images.tensors",
    "contact_sheet": "sfumato.images.sheet",
    "crop_back": "sfumato.images.tensors",
    "pad_to_grid": "sfumato.images.tensors",
    "to_tensor": "sfumato.images.tensors",
    "to_uint8": "sfumato.images.tensors",
}

__all__ = [
    "MAX_PIXELS",
    "OUTPUT_FORMATS",
    "Mask",
    "Padding",
    "Picture",
    "check_output",
    "contact_sheet",
    "crop_back",
    "pad_to_grid",
    "read_image",
    "read_mask",
    "read_recipe",
    "to_tensor",
    "to_uint8",
    "transparent_parts",
    "write_image",
]


def __getattr__(name: str) -> Any:
    """Import the tensor functions at first use, so that reading a recipe does not import torch."""
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'sfumato.images' has no attribute {name!r}")
