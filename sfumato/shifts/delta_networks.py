"""The two kinds of delta-h of Asyrp (arXiv 2210.10960, section 3.3), functions of h and t.

    block:   dh_t = k f(h_t, t)    a small network, shared by all timesteps and images of any size
    steps:   dh_t = k v_t          one tensor of the shape of h for every timestep, shared by all images

The factor k is 1 in the paper. In a U-Net whose middle block has little influence, dh_t must be much larger than h, and
k saves the weights from growing that far.
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
"""Width of the sinusoidal embedding of t."""
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
        # up to 32 groups, of at least two channels: one value alone cannot be normalised
        self.norm = nn.GroupNorm(math.gcd(32, channels // 2) if channels % 2 == 0 else 1, channels)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, h: Float[Tensor, "b c h w"], t: int) -> Float[Tensor, "b c h w"]:
        """dh_t for every row."""
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
        """dh of the nearest trained timestep (the larger of two)."""
        nearest = min(range(len(self.timesteps)), key=lambda k: abs(self.timesteps[k] - t))
        return self.factor * self.values[nearest, None]


DeltaNetwork: TypeAlias = DeltaBlock | DeltaSteps


def build(kind: str, timesteps: tuple[int, ...], shape: Shape, factor: float = 1.0) -> DeltaNetwork:
    """A delta-h with random initial values; not zero, because the directional loss of an unchanged image is undefined.

    Args:
        kind: one of `KINDS`.
        timesteps: timesteps of the training run at which it acts, in descending order.
        shape: shape (c, h, w) of h.
        factor: k.
    """
    return DeltaBlock(shape[0], factor) if kind == "block" else DeltaSteps(timesteps, shape, factor)


def shape_of(network: DiffusionModel, size: tuple[int, int]) -> Shape:
    """Shape (c, h, w) of h for latents of this height and width. Raises BadInput for a network without h."""
    if network.unet.mid_block is None:
        raise BadInput("This network has no middle block, so it has no h: load another model.")
    height, width = (side // network.latent_multiple for side in size)
    return int(network.unet.config.block_out_channels[-1]), height, width
