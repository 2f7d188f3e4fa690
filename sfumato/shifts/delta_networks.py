"""The two kinds of delta-h of Asyrp (arXiv 2210.10960, section 3.3), functions of h and t.

    block:   dh_t = k f(h_t, t)    a small network for all timesteps, for images of any size
    steps:   dh_t = k v_t          one tensor of the shape of h per timestep, the same for all images

The factor k is 1 in the paper. In a U-Net whose middle block has little influence on the output, dh_t must be much
larger than h; with a larger k, the weights need not become that large.
"""

import math
from typing import TypeAlias

import torch
from diffusers.models.embeddings import get_timestep_embedding
from jaxtyping import Float
from torch import Tensor, nn

from sfumato.errors import BadInput
from sfumato.models.diffusion_model import DiffusionModel

KINDS = ("block", "steps")
FREQUENCIES = 128
"""Number of channels of the sinusoidal embedding of t."""
DEVIATION = 0.2
"""Standard deviation of the initial values of a delta-h per timestep, as in the public code."""
MOST_FACTOR = 1e4
"""Largest factor k."""

Shape: TypeAlias = tuple[int, int, int]


class DeltaBlock(nn.Module):
    """f(h, t): 1x1 convolution, plus an embedding of t, group normalisation, SiLU, 1x1 convolution.

    Args:
        channels: channels of h.
        factor: k, the factor of the output.
    """

    kind = "block"

    def __init__(self, channels: int, factor: float) -> None:
        super().__init__()
        self.factor = factor
        self.into = nn.Conv2d(channels, channels, 1)
        self.time = nn.Sequential(nn.Linear(FREQUENCIES, channels), nn.SiLU(), nn.Linear(channels, channels))
        # up to 32 groups of at least two channels, because a single value cannot be normalised
        self.norm = nn.GroupNorm(math.gcd(32, channels // 2) if channels % 2 == 0 else 1, channels)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, h: Float[Tensor, "b c h w"], t: int) -> Float[Tensor, "b c h w"]:
        """Compute dh_t for every row."""
        time = self.time(get_timestep_embedding(torch.tensor([t], device=h.device), FREQUENCIES))
        return self.factor * self.out(nn.functional.silu(self.norm(self.into(h) + time[:, :, None, None])))


class DeltaSteps(nn.Module):
    """One dh_t for each timestep of the training run, the same for all images.

    Args:
        timesteps: the timesteps, in descending order.
        shape: shape (c, h, w) of h.
        factor: k, the factor of the values.
    """

    kind = "steps"

    def __init__(self, timesteps: tuple[int, ...], shape: Shape, factor: float) -> None:
        super().__init__()
        self.timesteps, self.factor = timesteps, factor
        self.values = nn.Parameter(DEVIATION * torch.randn(len(timesteps), *shape))

    def forward(self, h: Float[Tensor, "b c h w"], t: int) -> Float[Tensor, "1 c h w"]:
        """Return dh of the trained timestep nearest to t (the larger one if two are equally near)."""
        nearest = min(range(len(self.timesteps)), key=lambda k: abs(self.timesteps[k] - t))
        return self.factor * self.values[nearest, None]


DeltaNetwork: TypeAlias = DeltaBlock | DeltaSteps


def build(kind: str, timesteps: tuple[int, ...], shape: Shape, factor: float = 1.0) -> DeltaNetwork:
    """Build a delta-h with random initial values, as the directional loss is undefined for dh = 0 (unchanged images).

    Args:
        kind: one of `KINDS`.
        timesteps: timesteps of the training run at which it is added, in descending order.
        shape: shape (c, h, w) of h.
        factor: k.
    """
    return DeltaBlock(shape[0], factor) if kind == "block" else DeltaSteps(timesteps, shape, factor)


def shape_of(network: DiffusionModel, size: tuple[int, int]) -> Shape:
    """Return the shape (c, h, w) of h for latents of `size` (height, width). Raises BadInput without a middle block."""
    if network.unet.mid_block is None:
        raise BadInput("This network has no middle block, so it has no h: load another model.")
    height, width = (side // network.latent_multiple for side in size)
    return int(network.unet.config.block_out_channels[-1]), height, width
