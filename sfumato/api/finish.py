"""From decoded edits to output pixels: residual of the autoencoder, mask, 8-bit levels."""

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from sfumato.errors import BadInput
from sfumato.images import MAX_PIXELS, read_mask, to_uint8
from sfumato.images.read import Source

TOLERATED = 0.08
"""Change of a pixel, in [-1,1], at which the weight of the residual falls to 1/e: about ten of 255 levels."""


def add_residual(edited: Tensor, decoded: Tensor, source: Tensor, radius: float) -> Tensor:
    """Add back what the autoencoder loses, x - D(E(x)), where the edit does not change the image.

    The weight is exp(-(d / TOLERATED)^2), where d is the absolute difference between the decoded edit and D(E(x)),
    maximum over the channels, smoothed: 1 where nothing changed, and near 0 where the residual would make the source
    visible in the edit.

    Args:
        edited: the decoded edit, [b,3,h,w] in [-1,1].
        decoded: D(E(x)), the same shape and range.
        source: x, the same shape and range.
        radius: standard deviation of the smoothing in pixels.

    Returns:
        The edit with the weighted residual, [b,3,h,w].
    """
    change = (edited - decoded).abs().amax(dim=1, keepdim=True)
    weight = torch.exp(-((_smooth(change, radius) / TOLERATED) ** 2))
    return edited + weight * (source - decoded)


def _smooth(x: Tensor, radius: float) -> Tensor:
    """Gaussian blur of [b,1,h,w], cut off at two standard deviations, with replicated borders."""
    reach = max(1, round(2 * radius))
    offsets = torch.arange(-reach, reach + 1, dtype=x.dtype)
    kernel = torch.exp(-((offsets / radius) ** 2) / 2)
    kernel = kernel / kernel.sum()
    x = F.conv2d(F.pad(x, (reach, reach, 0, 0), mode="replicate"), kernel.reshape(1, 1, 1, -1))
    return F.conv2d(F.pad(x, (0, 0, reach, reach), mode="replicate"), kernel.reshape(1, 1, -1, 1))


def inside(source: Source, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Read a mask as booleans [h,w], True where the edit applies.

    Args:
        source: image file or Pillow image, white where the edit applies.
        size: (width, height) of the image in pixels.

    Raises:
        BadInput: a mask of another size, one that cannot be read, or one without white pixels.
    """
    # The image may have been read with a raised max_pixels, so the limit is at least the size of the image.
    mask = read_mask(source, size, max(MAX_PIXELS, size[0] * size[1])) > 0.5
    if not mask.any():
        raise BadInput("The mask is black everywhere: paint white the area that the edit should change.")
    return mask


def as_image(mask: NDArray[np.bool_]) -> Image.Image:
    """A mask as a Pillow image, white where it is True."""
    return Image.fromarray(mask.astype(np.uint8) * 255)


def grey_levels(pixels: Tensor, source: NDArray[np.uint8], mask: NDArray[np.bool_] | None) -> NDArray[np.uint8]:
    """One image [3,h,w] in [-1,1] as uint8 [h,w,3]; outside the mask, the pixels of the source."""
    levels = to_uint8(pixels)
    return levels if mask is None else np.where(mask[..., None], levels, source)
