"""From an edited latent to the pixels that the user gets: residual of the autoencoder, mask, grey levels."""

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
"""Change, in the range [-1,1] of pixels, at which the residual has faded to 1/e: ten grey levels."""


def add_residual(edited: Tensor, decoded: Tensor, source: Tensor, radius: float) -> Tensor:
    """Give back what the autoencoder lost, x - D(E(x)), where the edit left the picture alone.

    The weight is exp(-(d / TOLERATED)^2) with d the smoothed absolute difference between the decoded edit and
    D(E(x)): 1 where nothing changed, 0 where the residual would show the old picture through the new one.

    Args:
        edited: the decoded edit, [b,3,h,w] in [-1,1].
        decoded: D(E(x)).
        source: x.
        radius: standard deviation of the smoothing in pixels.
    """
    change = (edited - decoded).abs().amax(dim=1, keepdim=True)
    weight = torch.exp(-((_smooth(change, radius) / TOLERATED) ** 2))
    return edited + weight * (source - decoded)


def _smooth(x: Tensor, radius: float) -> Tensor:
    """Gaussian blur with borders repeated; [b,1,h,w]."""
    reach = max(1, round(2 * radius))
    offsets = torch.arange(-reach, reach + 1, dtype=x.dtype)
    kernel = torch.exp(-((offsets / radius) ** 2) / 2)
    kernel = kernel / kernel.sum()
    x = F.conv2d(F.pad(x, (reach, reach, 0, 0), mode="replicate"), kernel.reshape(1, 1, 1, -1))
    return F.conv2d(F.pad(x, (0, 0, reach, reach), mode="replicate"), kernel.reshape(1, 1, -1, 1))


def inside(source: Source, size: tuple[int, int]) -> NDArray[np.bool_]:
    """A mask as booleans [h,w], True where the edit may act.

    Raises:
        BadInput: a mask of another size, one that cannot be read, or one without any white.
    """
    # as large as the picture at least, which was read under a limit that the user may have raised
    mask = read_mask(source, size, max(MAX_PIXELS, size[0] * size[1])) > 0.5
    if not mask.any():
        raise BadInput("The mask is black everywhere: paint white where the picture may change.")
    return mask


def as_image(mask: NDArray[np.bool_]) -> Image.Image:
    """A mask as a picture, white where it is True."""
    return Image.fromarray(mask.astype(np.uint8) * 255)


def grey_levels(pixels: Tensor, source: NDArray[np.uint8], mask: NDArray[np.bool_] | None) -> NDArray[np.uint8]:
    """One picture [3,h,w] in [-1,1] as uint8 [h,w,3]; outside the mask the source's own numbers."""
    levels = to_uint8(pixels)
    return levels if mask is None else np.where(mask[..., None], levels, source)
