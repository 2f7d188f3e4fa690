"""Clipping of P_t to the range of pixels, as `clip_sample` of diffusers' schedulers."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.shift import Shift
from sfumato.core.state import StepState
from sfumato.core.step import noise_that_leads_to, predict_x0, to_float64


@dataclass(frozen=True)
class ClipSample(Shift):
    """Change the predicted noise such that P_t is in [-limit, limit].

    P_t and D_t are both computed from the new noise, as in the posterior mean of DDPM (Ho et al., arXiv 2006.11239,
    eq. 7) with the clipped x_0. Where P_t is already in the range, the noise is bit-identical.

    Attributes:
        limit: largest absolute value of x_0.
    """

    limit: float

    def noise(self, state: StepState, eps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return (x_t - sqrt(abar_t) P) / sqrt(1 - abar_t) with the clipped P; eps where nothing was clipped."""
        prediction = predict_x0(state.x_t, eps, state.abar)
        clipped = prediction.clamp(-self.limit, self.limit)
        moved = noise_that_leads_to(clipped, state.x_t, state.abar)
        return torch.where(clipped == prediction, to_float64(eps), moved)
