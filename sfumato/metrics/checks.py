"""What every metric of pictures checks first, how it averages over a mask, and NaN where it has no value.

Everywhere: pictures are [b, c, h, w] in [0, 1]; a mask [h, w] or [b, h, w] in [0, 1] weighs the pixels.
"""

from collections.abc import Callable
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sfumato.errors import BadInput, NonFinite

Mask: TypeAlias = Float[Tensor, "h w"] | Float[Tensor, "b h w"] | None


def check_pictures(pictures: Float[Tensor, "..."], which: str = "given") -> None:
    """Raises BadInput for values outside [0, 1] and an empty batch, NonFinite for NaN."""
    if pictures.ndim != 4 or pictures.numel() == 0:
        raise BadInput(f"a batch of pictures [b, c, h, w] is needed, not {list(pictures.shape)}.")
    if not torch.isfinite(pictures).all():
        raise NonFinite(f"the {which} pictures to be compared hold NaN or infinity.")
    if pictures.min() < 0 or pictures.max() > 1:
        low, high = pictures.min(), pictures.max()
        raise BadInput(f"pixels must lie in 0..1; the {which} pictures hold {low:.3g} to {high:.3g}.")


def check_pair(a: Float[Tensor, "..."], b: Float[Tensor, "..."]) -> None:
    """Raises BadInput for shapes that differ and what `check_pictures` refuses, NonFinite for NaN."""
    if a.shape != b.shape or a.ndim != 4 or a.numel() == 0:
        raise BadInput(f"two batches of pictures of one size are needed, not {list(a.shape)} and {list(b.shape)}.")
    check_pictures(a, "first")
    check_pictures(b, "second")


def mask_weights(mask: Mask, pictures: Float[Tensor, "b c h w"]) -> Float[Tensor, "b h w"]:
    """The mask for each picture, in their precision; all ones without. Raises BadInput for a mask of another size."""
    n, _, height, width = pictures.shape
    if mask is None:
        return pictures.new_ones(n, height, width)
    if mask.shape not in ((height, width), (n, height, width)):
        raise BadInput(f"the mask has the shape {list(mask.shape)}, the pictures {list(pictures.shape)}.")
    if not ((mask >= 0) & (mask <= 1)).all():
        raise BadInput("the mask's values must lie in 0..1.")
    return mask.to(pictures).expand(n, height, width)


def weighted_mean(values: Float[Tensor, "b ..."], weight: Float[Tensor, "b ..."]) -> Float[Tensor, " b"]:
    """sum(weight * values) / sum(weight) of each picture.

    Raises BadInput where the weights of a picture are all zero: the mean over nothing has no value.
    """
    values, weight = values.flatten(1), weight.flatten(1)
    area = weight.sum(dim=1)
    if (area == 0).any():
        raise BadInput("the mask is empty where it is compared: give one with area (for SSIM away from the edge).")
    return (weight * values).sum(dim=1) / area


def where_defined(rows: Bool[Tensor, " b"], metric: Callable[..., Tensor], *arguments: Tensor) -> Float[Tensor, " b"]:
    """The metric of those rows of its arguments for which it has a value, float64; NaN for the others."""
    scores = torch.full(rows.shape, torch.nan, dtype=torch.float64, device=rows.device)
    if rows.any():
        scores[rows] = metric(*(each[rows] for each in arguments))
    return scores
