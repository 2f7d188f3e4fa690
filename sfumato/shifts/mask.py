"""Bounding an edit: outside a mask the run is held on the latents of the source."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from sfumato.core.shift import Shift
from sfumato.core.state import StepState
from sfumato.core.step import noise_map


@dataclass(frozen=True, eq=False)
class HoldOutside(Shift):
    """Choose z_t outside the mask so that x_{t-1} is the source's: z_t = (x_{t-1}^source - mu_t) / sigma_t.

    Blended diffusion (Avrahami et al., arXiv 2111.14818) replaces x_{t-1} itself; moving the noise map instead
    leaves x_{t-1} to the one loop, and holds at the last step too.

    Attributes:
        source: the latents of the inversion, x_0 last; a run that skips its first steps uses the last of them.
        inside: 1 where the edit may act, 0 where the source is held, in the latents' resolution.
    """

    source: Float[Tensor, "levels b c h w"]
    inside: Float[Tensor, "b 1 h w"]

    def noise_map(self, state: StepState, z: Float[Tensor, "b c h w"] | None) -> Float[Tensor, "b c h w"] | None:
        """z_t inside, the source's outside."""
        assert state.mean is not None
        held = noise_map(self.source[state.i - state.steps], state.mean, state.sigma)
        free = torch.zeros_like(held) if z is None else z.to(held.dtype)
        return torch.where(self.inside > 0, free, held)


def to_latent_grid(mask: Float[Tensor, "b 1 height width"], factor: int) -> Float[Tensor, "b 1 h w"]:
    """A mask in pixels, padded to the grid, in the latents' resolution: 1 where any pixel of the cell is inside."""
    return F.max_pool2d(mask, factor)
