"""Restrict an edit to a mask: outside the mask the run follows the latents of the source."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from sfumato.core.shift import Shift
from sfumato.core.state import StepMean
from sfumato.core.step import noise_map
from sfumato.errors import BadInput


@dataclass(frozen=True, eq=False)
class KeepOutsideMask(Shift):
    """Set z_t outside the mask such that x_{t-1} is that of the source: z_t = (x_{t-1}^source - mu_t) / sigma_t.

    Blended diffusion (Avrahami et al., arXiv 2111.14818) replaces x_{t-1} itself. Here the noise map is replaced, so
    that the sampling loop still computes x_{t-1}. This also works in the last step, to x_0.

    Attributes:
        inside: 1 where the edit applies, 0 where the source is kept, at the resolution of the latents.
    """

    keeps_source: ClassVar[bool] = True
    inside: Float[Tensor, "b 1 h w"]

    def noise_map(self, state: StepMean, z: Float[Tensor, "b c h w"] | None) -> Float[Tensor, "b c h w"] | None:
        """Return z_t inside the mask, and outside the noise map that leads to x_{t-1} of the source.

        Raises:
            BadInput: the run generates an image, so that there is no source.
        """
        if not state.source:
            raise BadInput("A mask needs the latents of a source image outside it: invert an image first.")
        held = noise_map(state.source[state.t_prev], state.mean, state.sigma)
        free = torch.zeros_like(held) if z is None else z.to(held.dtype)
        return torch.where(self.inside > 0, free, held)


def to_latent_grid(mask: Float[Tensor, "b 1 height width"], factor: int) -> Float[Tensor, "b 1 h w"]:
    """Downsample a mask from pixels to latent positions: the maximum over each cell of `factor` x `factor` pixels."""
    return F.max_pool2d(mask, factor)
