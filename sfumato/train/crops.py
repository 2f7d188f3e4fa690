"""Crops that contain edges: a random crop of a drawing on a plain background is often blank."""

import torch
from torch import Tensor
from torch.nn import functional as F

#: Number of random positions compared for each crop.
_CANDIDATES = 4


def crops_with_edges(pixels: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Crop one square of each image: of four random positions, the one with the largest mean absolute gradient.

    Args:
        pixels: float [b,3,h,w].
        side: side of the crop in pixels, at most h and w.
        generator: a CPU generator.

    Returns:
        The crops, float [b,3,side,side], on the device of `pixels`.
    """
    b, _, h, w = pixels.shape
    top = torch.randint(h - side + 1, (b, _CANDIDATES), generator=generator).to(pixels.device)
    left = torch.randint(w - side + 1, (b, _CANDIDATES), generator=generator).to(pixels.device)
    rows = torch.arange(b, device=pixels.device)
    best = _edges_within(pixels, side)[rows[:, None], top, left].argmax(1)
    corners = zip(top[rows, best].tolist(), left[rows, best].tolist(), strict=True)
    return torch.stack([image[:, y : y + side, x : x + side] for image, (y, x) in zip(pixels, corners, strict=True)])


def _edges_within(pixels: Tensor, side: int) -> Tensor:
    """Sum of the absolute gradient over the crop with its upper left corner at each pixel: [b,h-side+1,w-side+1]."""
    grey = pixels.mean(1)
    gradient = F.pad(grey.diff(dim=2).abs(), (0, 1)) + F.pad(grey.diff(dim=1).abs(), (0, 0, 0, 1))
    total = F.pad(gradient.cumsum(1).cumsum(2), (1, 0, 1, 0))  # the integral image
    return total[:, side:, side:] - total[:, :-side, side:] - total[:, side:, :-side] + total[:, :-side, :-side]
