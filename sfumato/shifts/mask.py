"""Bounding an edit: outside a mask the run is held on the latents of the source."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from sfumato.core.shift import Shift
from sfumato.core.state import StepMean
from sfumato.core.step import noise_map
from sfumato.errors import BadInput


@dataclass(frozen=True, eq=False)
class HoldOutside(Shift):
    """Choose z_t outside the mask so that x_{t-1} is the source's: z_t = (x_{t-1}^source - mu_t) / sigma_t.

    Blended diffusion (Avrahami et al., arXiv 2111.14818) replaces x_{t-1} itself; moving the noise map instead
    leaves x_{t-1} to the one loop, and holds at the last step too.

    Attributes:
        inside: 1 where the edit may act, 0 where the source is held, in the latents' resolution.
    """

    inside: Float[Tensor, "b 1 h w"]

    def noise_map(self, state: StepMean, z: Float[Tensor, "b c h w"] | None) -> Float[Tensor, "b c h w"] | None:
        """z_t inside, the source's outside.

        Raises:
            BadInput: a generated picture, which has no source.
        """
        if not state.source:
            raise BadInput("A mask that holds the source outside needs an inverted picture.")
        held = noise_map(state.source[state.t_prev], state.mean, state.sigma)
        free = torch.zeros_like(held) if z is None else z.to(held.dtype)
        return torch.where(self.inside > 0, free, held)


def to_latent_grid(mask: Float[Tensor, "b 1 height width"], factor: int) -> Float[Tensor, "b 1 h w"]:
    """A mask in pixels, padded to the grid, in the latents' resolution: 1 where any pixel of the cell is inside."""
    return F.max_pool2d(mask, factor)
