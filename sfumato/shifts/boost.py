"""Quality boosting: stochastic steps at the end of a deterministic run (Asyrp, section 3.4).

Kwon, Jeong, Uh, "Diffusion Models already have a Semantic Latent Space", arXiv 2210.10960: eta = 1 below a given
timestep. The sampling loop has a single eta. A step with another value eta' is therefore expressed as the noise map
that gives the same x_{t-1}, where sigma'_t and D'_t are those of eta' and e ~ N(0, I):

    z_t = (mu'_t + sigma'_t e - mu_t) / sigma_t,      mu'_t = sqrt(abar_{t-1}) P_t + D'_t
"""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from sfumato.core.noise import gaussian_batch
from sfumato.core.shift import Shift
from sfumato.core.state import StepMean
from sfumato.core.step import combine, direction, noise_in, noise_scale, sigma, to_float64


@dataclass(frozen=True, eq=False)
class QualityBoost(Shift):
    """Replace the steps at timesteps below `below` by steps with another eta.

    Attributes:
        below: training timestep; steps at t < below are replaced.
        seeds: one per image; the noise is a function of (seed, t, visit).
        eta: eta of the replaced steps, 1 in the paper.
    """

    below: int
    seeds: Sequence[int]
    eta: float = 1.0

    def noise_map(self, state: StepMean, z: Float[Tensor, "b c h w"] | None) -> Float[Tensor, "b c h w"] | None:
        """Return the z_t for which mu_t + sigma_t z_t is the result of a step with `eta` and fresh noise."""
        if state.t >= self.below:
            return z
        deviation = sigma(state.abar, state.abar_prev, self.eta)
        towards = direction(noise_in(state.x_t, state.eps, state.abar), state.abar_prev, deviation)
        mean = combine(state.x0_prediction, towards, state.abar_prev)
        tag = f"boost {state.visit}" if state.visit else "boost"
        noise = gaussian_batch(state.x_t.shape[1:], self.seeds, step=state.t, tag=tag, device=state.x_t.device)
        return (mean + deviation * to_float64(noise) - state.mean) / noise_scale(state.sigma)
