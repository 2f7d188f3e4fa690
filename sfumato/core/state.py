"""What is known during one step of the reverse process, and who predicts the noise."""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.schedule import Schedule
from sfumato.errors import NonFinite


@runtime_checkable
class Denoiser(Protocol):
    """A network, or a network wrapped in guidance: always predicts the noise, whatever the network returns."""

    @property
    def schedule(self) -> Schedule:
        """What the network was trained on."""

    def predict(self, x: Tensor, t: int | Tensor, cond: Any, taps: Any = None) -> Tensor:
        """eps [b,c,h,w] for latents x [b,c,h,w] at timestep t (one for all, or [b])."""


@dataclass(frozen=True, eq=False)
class StepState:
    """One step, filled in from top to bottom as the step proceeds; a shift sees what is above its handle.

    Attributes:
        i: index of the step in this run, from 0.
        steps: number of steps of this run.
        t: timestep that the network is asked at.
        t_prev: timestep that the step goes to; -1 for x_0.
        abar: alpha-bar at t.
        abar_prev: alpha-bar at t_prev.
        sigma: standard deviation of the step's noise.
        x_t: the latent that the step starts from, [b,c,h,w].
        condition: what the network is conditioned on, one row per latent.
        taps: what the shifts asked to read or replace inside the network.
        eps: the predicted noise after guidance, [b,c,h,w].
        x0_prediction: P_t, [b,c,h,w], float64.
        mean: mu_t, [b,c,h,w], float64.
        z: the noise map, [b,c,h,w], or None where nothing is added.
        x_prev: the latent that the step ends at, [b,c,h,w], in the dtype of x_t.
    """

    i: int
    steps: int
    t: int
    t_prev: int
    abar: float
    abar_prev: float
    sigma: float
    x_t: Float[Tensor, "b c h w"]
    condition: Any = None
    taps: tuple[Any, ...] = ()
    eps: Float[Tensor, "b c h w"] | None = None
    x0_prediction: Float[Tensor, "b c h w"] | None = None
    mean: Float[Tensor, "b c h w"] | None = None
    z: Float[Tensor, "b c h w"] | None = None
    x_prev: Float[Tensor, "b c h w"] | None = None


def check_finite(value: Float[Tensor, "..."], name: str, i: int, steps: int, t: int) -> None:
    """Stop at the first NaN or infinity.

    Raises:
        NonFinite: names the step (from 1), the timestep and the tensor.
    """
    if not bool(torch.isfinite(value).all()):
        raise NonFinite(f"Step {i + 1} of {steps} (timestep {t}): {name} holds NaN or infinity.")
