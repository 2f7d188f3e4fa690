"""What is known during one step of the reverse process, and who predicts the noise.

A step fills in one state after the other: each class has what the one before it has, and more. A shift's hook gets the
state with everything that is known before its handle.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Protocol, TypeVar, runtime_checkable

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


@dataclass(frozen=True, eq=False, kw_only=True)
class StepState:
    """A step before its prediction.

    Attributes:
        i: index of the step among those of the run, from 0: of its timestep, recorded latents and noise maps.
        steps: number of steps of this run.
        t: timestep at which the network is evaluated.
        t_prev: timestep that the step goes to; -1 for x_0.
        abar: alpha-bar at t.
        abar_prev: alpha-bar at t_prev.
        sigma: standard deviation of the step's noise.
        network: predicts the noise: the guided network.
        x_t: the latent that the step starts from, [b,c,h,w].
        condition: what the network is conditioned on, one row per latent.
        visit: how often step i has been run before, where the path goes back up (`sfumato.core.path`).
        source: latents of the inverted picture by timestep, [b,c,h,w] each, x_0 under -1; {} for a generated one.
        taps: what the shifts read or replace inside the network.
        gradients: of the energies, by the id of the shift; see `gradient`.
    """

    i: int
    steps: int
    t: int
    t_prev: int
    abar: float
    abar_prev: float
    sigma: float
    network: Denoiser
    x_t: Float[Tensor, "b c h w"]
    condition: Any = None
    visit: int = 0
    source: Mapping[int, Float[Tensor, "b c h w"]] = field(default_factory=dict)
    taps: tuple[Any, ...] = ()
    gradients: Mapping[int, Float[Tensor, "b c h w"]] = field(default_factory=dict)

    def gradient(self, shift: object) -> Float[Tensor, "b c h w"]:
        """The gradient with respect to x_t of the energy that a shift declared in this step."""
        return self.gradients[id(shift)]


@dataclass(frozen=True, eq=False, kw_only=True)
class StepNoise(StepState):
    """A step with its predicted noise.

    Attributes:
        eps: the predicted noise after guidance, [b,c,h,w].
    """

    eps: Float[Tensor, "b c h w"]


@dataclass(frozen=True, eq=False, kw_only=True)
class StepMean(StepNoise):
    """A step with all but its noise.

    Attributes:
        x0_prediction: P_t, [b,c,h,w], float64.
        mean: mu_t, [b,c,h,w], float64.
    """

    x0_prediction: Float[Tensor, "b c h w"]
    mean: Float[Tensor, "b c h w"]


@dataclass(frozen=True, eq=False, kw_only=True)
class StepEnd(StepMean):
    """A finished step.

    Attributes:
        z: the noise map, [b,c,h,w], or None where nothing is added.
        x_prev: the latent that the step ends at, [b,c,h,w], in the dtype of x_t.
    """

    z: Float[Tensor, "b c h w"] | None
    x_prev: Float[Tensor, "b c h w"]


Later = TypeVar("Later", bound=StepState)


def extend(state: StepState, kind: type[Later], **known: Any) -> Later:
    """The same step with more of it known."""
    return kind(**{each.name: getattr(state, each.name) for each in fields(state)}, **known)


def check_finite(value: Float[Tensor, "..."], name: str, i: int, steps: int, t: int) -> None:
    """Stop at the first NaN or infinity.

    Raises:
        NonFinite: names the step (from 1), the timestep and the tensor.
    """
    if not bool(torch.isfinite(value).all()):
        raise NonFinite(f"Step {i + 1} of {steps} (timestep {t}): {name} holds NaN or infinity.")
