"""The seven handles of the reverse process, and what moves them.

A method of the literature is an inversion and a list of shifts. A shift overrides the hooks of the handles that it
moves; every other hook is the identity. Several shifts compose in the order of the list: each one receives the value
that the one before it returned.
"""

from typing import Any

from jaxtyping import Float
from torch import Tensor

from sfumato.core.energy import Energy
from sfumato.core.state import StepMean, StepNoise, StepState


class Shift:
    """Moves nothing; subclass it and override a hook.

    Hooks are called once a step in the order in which they are listed here, without gradients: a shift that needs a
    gradient declares an energy. `state` holds everything that is known by then.
    """

    def for_run(self) -> "Shift":
        """The shift that acts in one run; called when the run begins.

        A shift that keeps something from step to step returns a fresh copy of itself, so that runs of the same list of
        shifts, one after the other or at the same time, are independent of one another.
        """
        return self

    def replaces(self, i: int, steps: int) -> tuple[str, ...]:
        """Names of what the shift puts something else in the place of, at step i of a run of so many steps.

        Two shifts that replace the same in the same step are refused before the run begins.
        """
        return ()

    def condition(self, state: StepState, condition: Any) -> Any:
        """c: what the network is conditioned on."""
        return condition

    def taps(self, state: StepState) -> Any:
        """h, f_l and A: what to read or replace inside the network, or None."""
        return None

    def energy(self, state: StepState) -> Energy | None:
        """A scalar whose gradient with respect to x_t the hooks below find as `state.gradient(self)`, or None."""
        return None

    def latent(self, state: StepState, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """x_t: before the prediction."""
        return x

    def noise(self, state: StepState, eps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """eps: the predicted noise, after guidance; moves P_t and D_t."""
        return eps

    def prediction_taps(self, state: StepNoise) -> Any:
        """h, f_l and A once more, for the noise of P_t alone: D_t keeps the noise without them (Asyrp); or None."""
        return None

    def prediction(self, state: StepNoise, prediction: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """P_t: the prediction of x_0 alone; D_t keeps the noise."""
        return prediction

    def noise_map(self, state: StepMean, z: Float[Tensor, "b c h w"] | None) -> Float[Tensor, "b c h w"] | None:
        """z_t: what the step adds, scaled by `noise_scale(state.sigma)`."""
        return z
