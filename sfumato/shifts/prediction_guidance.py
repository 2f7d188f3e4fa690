"""Guidance of the prediction P_t by the gradient of losses, as in DiffuseIT (Kwon and Ye, arXiv 2209.15264, eq. 5).

    mu_t <- mu_t - s_t^2 g,      s_t^2 = (1 - abar_{t-1}) / (1 - abar_t) (1 - abar_t / abar_{t-1})

g is the gradient of the losses with respect to x_t, and s_t^2 is the variance of a DDPM step, also in runs with eta <
1. The update is applied to the prediction, P_t <- P_t - s_t^2 / sqrt(abar_{t-1}) g, which changes mu_t by the same
amount and is visible in previews. In a step to abar_{t-1} = 1, s_t = 0 and no loss is evaluated.
"""

import math
from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from sfumato.core.energy import Energy
from sfumato.core.shift import PLACES, Shift
from sfumato.core.state import StepNoise, StepState, check_finite
from sfumato.core.step import sigma
from sfumato.shifts.energy.prediction import PredictionEnergy


class GuidePrediction(Shift):
    """A gradient step on P_t.

    With `through_network` (see `PredictionEnergy`), the gradient is backpropagated through the denoising network under
    the condition of the run, without guidance. This needs one more backward pass per step; the forward pass is that of
    the step's prediction, unless a shift changes x_t after it. Otherwise the predicted noise is treated as a constant,
    the losses are those of the guided prediction, and only the decoder and the networks of the losses are
    differentiated.

    Args:
        energy_of_run: returns a new sum of losses for one run.
        scale: factor of the gradient.
    """

    def __init__(self, energy_of_run: Callable[[], PredictionEnergy], scale: float = 1.0) -> None:
        self.energy_of_run, self.scale = energy_of_run, scale
        self.losses = energy_of_run()

    @property
    def name(self) -> str:
        """Name of the losses in error messages."""
        return self.losses.name

    def for_run(self) -> "GuidePrediction":
        """Return the same guidance for another run."""
        return GuidePrediction(self.energy_of_run, self.scale)

    def reads(self, i: int, steps: int) -> tuple[str, ...]:
        """The positions of the source, as the losses compare the prediction with it position by position."""
        return (PLACES,)

    def energy(self, state: StepState) -> Energy | None:
        """Return the sum of the losses if its gradient is computed through the network, otherwise None."""
        if not self.losses.through_network or not ddpm_variance(state):
            return None
        return Energy(self.losses.measure(state).value, name=self.name)

    def prediction(self, state: StepNoise, prediction: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return P_t - scale s_t^2 / sqrt(abar_{t-1}) g."""
        variance = ddpm_variance(state)
        if not variance:
            return prediction
        gradient = self._gradient(state, prediction)
        return prediction - self.scale * variance / math.sqrt(state.abar_prev) * gradient.to(prediction)

    def _gradient(self, state: StepNoise, prediction: Tensor) -> Float[Tensor, "b c h w"]:
        if self.losses.through_network:
            return state.gradient(self)
        gradient = self.losses.of_prediction(state, prediction)
        check_finite(gradient, f"the gradient of {self.name}", state.i, state.steps, state.t)
        return gradient


def ddpm_variance(state: StepState) -> float:
    """Compute s_t^2, the variance of a DDPM step."""
    return sigma(state.abar, state.abar_prev, 1.0) ** 2
