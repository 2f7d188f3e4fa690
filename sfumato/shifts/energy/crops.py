"""Random augmentation of images as a function of (seed, step): rotation, cropping and horizontal flips."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from sfumato.core.noise import stream

ANGLE = 10.0
"""Largest rotation in degrees."""
AREA = (0.8, 1.0)
"""Range of the area of a crop, as a fraction of the image."""
RATIO = (0.9, 1.1)
"""Range of width / height of a crop, relative to that of the image."""


def random_crops(
    pixels: Float[Tensor, "b 3 h w"], count: int, seeds: Sequence[int], step: int, visit: int = 0
) -> Float[Tensor, "crops 3 h w"]:
    """Draw `count` crops of every image, resampled to the size of the image, in one call of `grid_sample`.

    DiffuseIT's augmentation (arXiv 2209.15264): a rotation by up to 10 degrees, a crop of 80 to 100 % of the area, and
    a horizontal flip with probability 1/2. Pixels outside the image are filled by reflection.

    Args:
        pixels: images.
        count: number of crops per image.
        seeds: one per image.
        step: timestep.
        visit: how many times the step has run before.

    Returns:
        [b count, 3, h, w]; all crops of the first image, then those of the second one, and so on.
    """
    draws = [stream(seed, 0, step, f"crops {visit}") for seed in seeds]
    theta = torch.cat([_transforms(torch.rand(count, 6, generator=each, dtype=torch.float64)) for each in draws])
    repeated = pixels.repeat_interleave(count, dim=0)
    grid = F.affine_grid(theta.to(pixels), list(repeated.shape), align_corners=False)
    return F.grid_sample(repeated, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _transforms(u: Float[Tensor, "n 6"]) -> Float[Tensor, "n 2 3"]:
    """Affine maps from coordinates of a crop to those of the image, both in [-1, 1], from six uniform numbers each."""
    angle = (2 * u[:, 0] - 1) * math.radians(ANGLE)
    area = AREA[0] + (AREA[1] - AREA[0]) * u[:, 1]
    ratio = torch.exp(math.log(RATIO[0]) + math.log(RATIO[1] / RATIO[0]) * u[:, 2])
    width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    right, down = (1 - width) * (2 * u[:, 3] - 1), (1 - height) * (2 * u[:, 4] - 1)
    width = torch.where(u[:, 5] < 0.5, width, -width)
    cos, sin = angle.cos(), angle.sin()
    rows = [cos * width, -sin * height, right, sin * width, cos * height, down]
    return torch.stack(rows, dim=1).reshape(-1, 2, 3)
