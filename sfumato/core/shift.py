"""The seven handles of the reverse process, and what moves them.

A method of the literature is an inversion and a list of shifts. A shift overrides the hooks of the handles that it
moves; every other hook is the identity. Several shifts compose in the order of the list: each one receives the value
that the one before it returned.
"""

from typing import Any

from jaxtyping import Float
from torch import Tensor

from sfumato.core.state import StepState


class Shift:
    """Moves nothing; subclass it and override a hook.

    Hooks are called once a step in the order in which they are listed here, without gradients (a shift that needs
    them enables them itself). `state` holds everything that is known by then.
    """

    def condition(self, state: StepState, condition: Any) -> Any:
        """c: what the network is conditioned on."""
        return condition

    def latent(self, state: StepState, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """x_t: before the network sees it."""
        return x

    def taps(self, state: StepState) -> Any:
        """h, f_l and A: what to read or replace inside the network, or None."""
        return None

    def noise(self, state: StepState, eps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """eps: the predicted noise, after guidance; moves P_t and D_t."""
        return eps

    def prediction(self, state: StepState, prediction: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """P_t: the prediction of x_0 alone; D_t keeps the noise (Asyrp)."""
        return prediction

    def noise_map(self, state: StepState, z: Float[Tensor, "b c h w"] | None) -> Float[Tensor, "b c h w"] | None:
        """z_t: what the step adds, scaled by `noise_scale(state.sigma)`."""
        return z
