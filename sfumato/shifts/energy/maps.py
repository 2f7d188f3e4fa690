"""Properties of attention maps (Epstein et al., "Diffusion Self-Guidance", arXiv 2306.00986, section 3 and appendix).

A map A is non-negative, [b,1,h,w]. Coordinates are (x, y) in [0, 1], from the left and upper edge of the map to the
right and lower edge; those of a cell are the coordinates of its centre.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from sfumato.core.notes import note
from sfumato.shifts.energy.warp import Warp

SHARPNESS = 10.0
"""s, the slope of the sigmoid in `soft_mask`."""
SMOOTH = 1e-3
"""Threshold of the smooth L1 distance: differences below it are squared, see `difference`."""
FEWEST = 4
"""Smallest number of cells of a map in each direction for which no note is made; see `note_coarse`."""
_SMALLEST = 1e-4


def note_coarse(grid: tuple[int, int]) -> None:
    """Add a note to the report of the run if maps of this height and width are too coarse to locate objects."""
    if min(grid) < FEWEST:
        note(
            f"The attention maps that locate words have {grid[1]} x {grid[0]} cells at this size, too few for the "
            "positions and sizes of objects: use a larger image or resolution."
        )


def difference(a: Float[Tensor, "..."], b: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Smooth L1 distance |a - b| with s = `SMOOTH`: d^2 / (2 s) for d = |a - b| < s, else d - s / 2.

    At the start of an edit, target and source are equal, and the sign of their difference is determined by rounding
    errors. The gradient of a plain absolute value would then have full magnitude and a random direction.
    """
    return F.smooth_l1_loss(a, b.expand_as(a), beta=SMOOTH, reduction="none")


def normalised(A: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 h w"]:
    """Min-max normalisation per image, N(A) = (A - min A) / (max A - min A); 0 for a constant map."""
    low, high = A.amin(dim=(2, 3), keepdim=True), A.amax(dim=(2, 3), keepdim=True)
    span = high - low
    return (A - low) / (span + _SMALLEST * high + torch.finfo(A.dtype).tiny)


def soft_mask(A: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 h w"]:
    """Differentiable mask N(sigmoid(s (N(A) - 0.5))): close to 1 where the map is large, close to 0 elsewhere."""
    return normalised(torch.sigmoid(SHARPNESS * (normalised(A) - 0.5)))


def hard_mask(A: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 h w"]:
    """Binary mask: 1 where N(A) > 0.5, 0 elsewhere, without gradient."""
    return (normalised(A.detach()) > 0.5).to(A.dtype)


def coordinates(A: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "2 h w"]:
    """Coordinates (x, y) of the centre of every cell, in [0, 1]."""
    h, w = A.shape[-2:]
    y, x = ((torch.arange(n, dtype=A.dtype, device=A.device) + 0.5) / n for n in (h, w))
    return torch.stack([x.expand(h, w), y[:, None].expand(h, w)])


def centroid(A: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 2"]:
    """Centroid sum A (x, y) / sum A; the centre (0.5, 0.5) if A is 0 everywhere."""
    mass = A.sum(dim=(2, 3)) + torch.finfo(A.dtype).tiny
    found = (A * coordinates(A)).sum(dim=(2, 3)) / mass
    return torch.where(A.sum(dim=(2, 3)) > 0, found, torch.full_like(found, 0.5))


def size(A: Float[Tensor, "b 1 h w"]) -> Float[Tensor, " b"]:
    """Mean of the soft mask: the fraction of the map that it covers, 0 to 1."""
    return soft_mask(A).mean(dim=(1, 2, 3))


def warped(
    mask: Float[Tensor, "b 1 h w"], warp: Warp, centre: Float[Tensor, "b 2"], at: Float[Tensor, "b 2"] | None = None
) -> Float[Tensor, "b 1 h w"]:
    """Warp a mask about `centre`; values from outside the map are 0.

    For every position p of the result, the mask is sampled at q = centre + S^-1 R^-1 (p - at - d), where S is the
    scaling, R the rotation and d the displacement (right, down).

    Args:
        mask: mask of the object.
        warp: the map.
        centre: centroid (x, y) of the object.
        at: position to which the centroid is moved before the displacement d; `centre` by default.
    """
    h, w = mask.shape[-2:]
    d = mask.new_tensor([warp.right, warp.down])
    p = coordinates(mask).permute(1, 2, 0) - ((centre if at is None else at) + d)[:, None, None]
    # Rotate in units of cells; in fractions of width and height, maps that are not square would distort angles.
    p = p * mask.new_tensor([w, h])
    cos, sin = math.cos(math.radians(warp.angle)), math.sin(math.radians(warp.angle))
    back = torch.stack([cos * p[..., 0] + sin * p[..., 1], -sin * p[..., 0] + cos * p[..., 1]], dim=-1)
    q = back / mask.new_tensor([warp.width * w, warp.height * h]) + centre[:, None, None]
    return F.grid_sample(mask, 2 * q - 1, align_corners=False)


def share_inside(
    mask: Float[Tensor, "b 1 h w"], warp: Warp, centre: Float[Tensor, "b 2"], at: Float[Tensor, "b 2"] | None = None
) -> Float[Tensor, " b"]:
    """Compute the share of a mask whose cells lie inside the map after the warp; 1 for an empty mask.

    A cell at q is moved to p = at + d + R S (q - centre). The arguments are those of `warped`.
    """
    h, w = mask.shape[-2:]
    offset = (coordinates(mask).permute(1, 2, 0) - centre[:, None, None]) * mask.new_tensor(
        [w * warp.width, h * warp.height]
    )
    cos, sin = math.cos(math.radians(warp.angle)), math.sin(math.radians(warp.angle))
    turned = torch.stack([cos * offset[..., 0] - sin * offset[..., 1], sin * offset[..., 0] + cos * offset[..., 1]], -1)
    d = mask.new_tensor([warp.right, warp.down])
    p = turned / mask.new_tensor([w, h]) + ((centre if at is None else at) + d)[:, None, None]
    within = ((p >= 0) & (p <= 1)).all(dim=-1)[:, None]
    total = mask.sum(dim=(1, 2, 3))
    return torch.where(total > 0, (mask * within).sum(dim=(1, 2, 3)) / total.clamp(min=1e-4), torch.ones_like(total))
