"""The quality-boosted tail: the last part of a deterministic run becomes a stochastic one (Asyrp, section 3.4).

Kwon, Jeong, Uh, "Diffusion Models already have a Semantic Latent Space", arXiv 2210.10960: below some timestep
eta = 1. The loop has one eta; the step of another one is expressed by the noise map of the step that it replaces.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from sfumato.core.noise import gaussian_batch
from sfumato.core.shift import Shift
from sfumato.core.state import StepMean
from sfumato.core.step import combine, direction, noise_scale, sigma, wide


@dataclass(frozen=True, eq=False)
class QualityBoost(Shift):
    """Steps from timesteps below `below` are those of eta = 1.

    Attributes:
        below: timestep of the network.
        seeds: one per image; the noise is a function of (seed, t).
        eta: of the tail.
    """

    below: float
    seeds: Sequence[int]
    eta: float = 1.0

    def noise_map(self, state: StepMean, z: Float[Tensor, "b c h w"] | None) -> Float[Tensor, "b c h w"] | None:
        """The z_t with which mu_t + sigma_t z_t is the step of `eta`, fresh noise included."""
        if state.t >= self.below:
            return z
        deviation = sigma(state.abar, state.abar_prev, self.eta)
        towards = direction(state.eps, state.abar_prev, deviation)
        mean = combine(state.x0_prediction, towards, state.abar_prev)
        noise = gaussian_batch(state.x_t.shape[1:], self.seeds, step=state.t, tag="boost", device=state.x_t.device)
        return (mean + deviation * wide(noise) - state.mean) / noise_scale(state.sigma)
