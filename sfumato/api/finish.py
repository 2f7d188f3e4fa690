"""Post-processing of decoded edits: residual of the autoencoder, upsampling, mask, conversion to 8 bits."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from sfumato.images import LoadedImage, Mask, to_uint8
from sfumato.images.feather import feathered
from sfumato.images.mask import MaskSource, painted_mask
from sfumato.images.upsampling import upsampled_edit

TOLERATED = 0.08
"""Change of a pixel in [-1,1] at which the weight of the residual is 1/e: about ten of 255 levels."""


def add_residual(edited: Tensor, decoded: Tensor, source: Tensor, radius: float) -> Tensor:
    """Add back the reconstruction error of the autoencoder, x - D(E(x)), where the edit does not change the image.

    The weight is exp(-(d / TOLERATED)^2), where d is the absolute difference between the decoded edit and D(E(x)),
    maximised over channels and smoothed. It is 1 where the edit changes nothing and close to 0 in changed regions, in
    which the residual would make the source visible.

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
    """Gaussian blur of [b,1,h,w], truncated at two standard deviations, with replicated borders."""
    reach = max(1, round(2 * radius))
    offsets = torch.arange(-reach, reach + 1, dtype=x.dtype)
    kernel = torch.exp(-((offsets / radius) ** 2) / 2)
    kernel = kernel / kernel.sum()
    x = F.conv2d(F.pad(x, (reach, reach, 0, 0), mode="replicate"), kernel.reshape(1, 1, 1, -1))
    return F.conv2d(F.pad(x, (0, 0, reach, reach), mode="replicate"), kernel.reshape(1, 1, -1, 1))


def weights_at(masks: Sequence[Mask | None], size: tuple[int, int]) -> Float[Tensor, "b 1 h w"] | None:
    """Downsample the weights of masks by averaging; 1 for an image without a mask, None if no image has one.

    Args:
        masks: one per image, at full size.
        size: (width, height) in pixels at which the images are edited.
    """
    if all(mask is None for mask in masks):
        return None
    everywhere = torch.ones(1, *size[::-1])
    weights = (None if mask is None else torch.from_numpy(mask.weights)[None] for mask in masks)
    return torch.stack([everywhere if each is None else F.adaptive_avg_pool2d(each, size[::-1]) for each in weights])


def finished(edited: Tensor, source: Tensor, image: LoadedImage, mask: Mask | None) -> NDArray[np.uint8]:
    """Convert one decoded edit to the full size of its image, uint8 [h,w,3], restricted by a mask.

    If the image was edited at a reduced size, the border of the mask is feathered inwards by one pixel of that size.

    Args:
        edited: the edit at the size at which the image was edited, [3,h,w] in [-1,1].
        source: the image at that size, the same shape and range.
        image: the image, with the original if it was resized.
        mask: the mask at full size; None for no restriction.
    """
    if image.original is None:
        return grey_levels(edited, image.rgb, mask)
    if mask is not None:
        reach = max(np.array(image.full.rgb.shape[:2]) / edited.shape[1:])
        mask = replace(mask, weights=feathered(mask.weights, reach))
    made = np.empty_like(image.full.rgb)
    for rows, pixels in upsampled_edit(edited, source, image.full.rgb):
        part = None if mask is None else replace(mask, weights=mask.weights[rows])
        made[rows] = grey_levels(pixels, image.full.rgb[rows], part)
    return made


def inside(source: MaskSource, size: tuple[int, int]) -> NDArray[np.float32]:
    """Return the weights [h,w] in [0,1] of a mask, as an edit reads them; for scripts that inspect a mask beforehand.

    Args:
        source: the mask, as for `painted_mask`.
        size: (width, height) of the image in pixels.

    Raises:
        BadInput: as `painted_mask`.
    """
    return painted_mask(source, size).weights


def grey_levels(pixels: Tensor, source: NDArray[np.uint8], mask: Mask | None) -> NDArray[np.uint8]:
    """Convert one image [3,h,w] in [-1,1] to uint8 [h,w,3] and blend it with the source by the weights w of the mask.

    The result is w edit + (1 - w) source in sRGB levels. Where w is 0, it is bit-identical to the source.
    """
    levels = to_uint8(pixels)
    if mask is None:
        return levels
    mixed = np.where(mask.weights[..., None] > 0, levels, source)
    grey = (mask.weights > 0) & (mask.weights < 1)
    weights = mask.weights[grey][:, None].astype(np.float64)
    mixed[grey] = np.rint(weights * levels[grey] + (1 - weights) * source[grey])
    return mixed
