"""Input checks and masked means that the image metrics share.

Images are [b, c, h, w] in [0, 1]. A mask [h, w] or [b, h, w] in [0, 1] weights the pixels.
"""

from collections.abc import Callable
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sfumato.errors import BadInput, NonFinite

Mask: TypeAlias = Float[Tensor, "h w"] | Float[Tensor, "b h w"] | None


def check_images(images: Float[Tensor, "..."], which: str = "given") -> None:
    """Check one batch of images.

    Raises:
        BadInput: the batch is empty or has another shape, or a value is outside [0, 1].
        NonFinite: a value is NaN or infinite.
    """
    if images.ndim != 4 or images.numel() == 0:
        raise BadInput(f"a non-empty batch of images [b, c, h, w] is needed, not {list(images.shape)}.")
    if not torch.isfinite(images).all():
        raise NonFinite(f"the {which} images contain NaN or infinity.")
    if images.min() < 0 or images.max() > 1:
        low, high = images.min(), images.max()
        raise BadInput(f"pixels must lie in 0..1; those of the {which} images range from {low:.3g} to {high:.3g}.")


def check_rgb(images: Float[Tensor, "..."]) -> None:
    """Check one batch of images [b, 3, h, w]. Raises BadInput and NonFinite as `check_images`."""
    if images.ndim != 4 or images.shape[1] != 3 or images.numel() == 0:
        raise BadInput(f"images [b, 3, h, w] are needed, not {list(images.shape)}.")
    check_images(images)


def check_pair(a: Float[Tensor, "..."], b: Float[Tensor, "..."]) -> None:
    """Check two batches of images of the same shape. Raises BadInput and NonFinite as `check_images`."""
    if a.shape != b.shape or a.ndim != 4 or a.numel() == 0:
        raise BadInput(f"two batches of images of the same shape are needed, not {list(a.shape)} and {list(b.shape)}.")
    check_images(a, "first")
    check_images(b, "second")


def mask_weights(mask: Mask, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b h w"]:
    """Expand the mask to one per image, in the images' dtype; all ones for None.

    Raises:
        BadInput: the mask has another height, width or batch size, or values outside [0, 1].
    """
    n, _, height, width = images.shape
    if mask is None:
        return images.new_ones(n, height, width)
    if mask.shape not in ((height, width), (n, height, width)):
        raise BadInput(
            f"the mask must be [h, w] or [b, h, w] of the size of the images, {list(images.shape)}, "
            f"not {list(mask.shape)}."
        )
    if not ((mask >= 0) & (mask <= 1)).all():
        raise BadInput("the mask's values must lie in 0..1.")
    return mask.to(images).expand(n, height, width)


def weighted_mean(values: Float[Tensor, "b ..."], weight: Float[Tensor, "b ..."]) -> Float[Tensor, " b"]:
    """sum(weight * values) / sum(weight) for each image.

    Raises:
        BadInput: all weights of an image are zero.
    """
    values, weight = values.flatten(1), weight.flatten(1)
    area = weight.sum(dim=1)
    if (area == 0).any():
        raise BadInput(
            "the mask is empty where images are compared: give one that selects pixels (for SSIM, away from the edge)."
        )
    return (weight * values).sum(dim=1) / area


def where_defined(rows: Bool[Tensor, " b"], metric: Callable[..., Tensor], *arguments: Tensor) -> Float[Tensor, " b"]:
    """Compute the metric of the selected rows of its arguments, float64; NaN for the other rows."""
    scores = torch.full(rows.shape, torch.nan, dtype=torch.float64, device=rows.device)
    if rows.any():
        scores[rows] = metric(*(each[rows] for each in arguments))
    return scores
