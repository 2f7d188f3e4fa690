"""Reading and writing of image files: EXIF orientation, colour profile, alpha, size limits and the embedded recipe."""

from typing import TYPE_CHECKING

from sfumato.images.limits import MAX_PIXELS
from sfumato.lazy import lazily

if TYPE_CHECKING:
    from sfumato.images.loaded_image import LoadedImage, resized, resized_pixels
    from sfumato.images.mask import Mask, read_mask, transparent_parts
    from sfumato.images.read import read_image
    from sfumato.images.recipe import read_recipe
    from sfumato.images.sheet import contact_sheet
    from sfumato.images.tensors import Padding, crop_back, pad_to_grid, to_tensor, to_uint8
    from sfumato.images.write import OUTPUT_FORMATS, check_output, write_image

__all__ = [
    "MAX_PIXELS",
    "OUTPUT_FORMATS",
    "LoadedImage",
    "Mask",
    "Padding",
    "check_output",
    "contact_sheet",
    "crop_back",
    "pad_to_grid",
    "read_image",
    "read_mask",
    "read_recipe",
    "resized",
    "resized_pixels",
    "to_tensor",
    "to_uint8",
    "transparent_parts",
    "write_image",
]
__getattr__ = lazily(
    __name__,
    {
        **dict.fromkeys(("Mask", "read_mask", "transparent_parts"), "sfumato.images.mask"),
        **dict.fromkeys(("LoadedImage", "resized", "resized_pixels"), "sfumato.images.loaded_image"),
        "read_image": "sfumato.images.read",
        "read_recipe": "sfumato.images.recipe",
        "contact_sheet": "sfumato.images.sheet",
        **dict.fromkeys(("Padding", "crop_back", "pad_to_grid", "to_tensor", "to_uint8"), "sfumato.images.tensors"),
        **dict.fromkeys(("OUTPUT_FORMATS", "check_output", "write_image"), "sfumato.images.write"),
    },
)
