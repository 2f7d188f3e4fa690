"""The quantities of one step of the reverse process, and the protocol of the network that predicts the noise.

A step creates these states one after the other; each class adds fields to the previous one. A hook of a shift receives
the state with all quantities that were computed before it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.condition import Condition
from sfumato.core.schedule import Schedule
from sfumato.errors import NonFinite

NetworkTap: TypeAlias = Any
"""A tap of the network: an object of a class in `sfumato.models.taps`, `.attention` or `.encoder_half`, which reads or
replaces features or attention maps. These classes have no member in common, and the loop needs none: it only passes
the taps of the shifts to the network."""


@runtime_checkable
class Denoiser(Protocol):
    """Protocol of a network, with or without guidance, whose output is converted to the predicted noise eps."""

    @property
    def schedule(self) -> Schedule:
        """The noise schedule that the network was trained with."""

    def predict(self, x: Tensor, t: int | Tensor, cond: Condition, taps: Sequence[NetworkTap] | None = None) -> Tensor:
        """Predict the noise.

        Args:
            x: latents, [b,c,h,w].
            t: timestep, one for all rows or one per row, [b].
            cond: the condition, one row per latent.
            taps: taps that read or replace features or attention maps of the network.

        Returns:
            eps, [b,c,h,w].
        """


@dataclass(frozen=True, eq=False, kw_only=True)
class StepState:
    """State of a step before the noise is predicted.

    Attributes:
        i: index of the step in the run, from 0; also the index of its timestep, recorded latent and noise map.
        steps: number of steps of this run.
        t: timestep at which the network is evaluated.
        t_prev: timestep of the result of the step; -1 for x_0.
        abar: alpha-bar at t.
        abar_prev: alpha-bar at t_prev.
        sigma: standard deviation of the step's noise.
        network: the network with its guidance.
        x_t: the latents that the step starts from, [b,c,h,w].
        condition: condition of the network, one row per latent.
        visit: how many times step i has run before; above 0 only if the path repeats steps (`sfumato.core.path`).
        source: latents of the inverted image by timestep, [b,c,h,w] each, x_0 under -1; {} for a generated image.
        taps: taps of the shifts, which read or replace features or attention maps of the network.
        gradients: gradients of the energies, by the id of the shift; see `gradient`.
        values: values of the energies, [b] each, by the id of the shift.
        refinements: number of refinements of x_t in this step so far (`Shift.refine`).
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
    condition: Condition
    visit: int = 0
    source: Mapping[int, Float[Tensor, "b c h w"]] = field(default_factory=dict)
    taps: tuple[NetworkTap, ...] = ()
    gradients: Mapping[int, Float[Tensor, "b c h w"]] = field(default_factory=dict)
    values: Mapping[int, Float[Tensor, " b"]] = field(default_factory=dict)
    refinements: int = 0

    def gradient(self, shift: object) -> Float[Tensor, "b c h w"]:
        """Return the gradient with respect to x_t, [b,c,h,w], of the energy that a shift declared in this step."""
        return self.gradients[id(shift)]


@dataclass(frozen=True, eq=False, kw_only=True)
class StepNoise(StepState):
    """State of a step after the noise is predicted.

    Attributes:
        eps: the predicted noise after guidance, [b,c,h,w]; where abar_t = 0, the velocity v (`sfumato.core.step`).
    """

    eps: Float[Tensor, "b c h w"]


@dataclass(frozen=True, eq=False, kw_only=True)
class StepMean(StepNoise):
    """State of a step before the noise map is added.

    Attributes:
        x0_prediction: P_t, [b,c,h,w], float64 (float32 on MPS).
        mean: mu_t = sqrt(abar_{t-1}) P_t + D_t, [b,c,h,w], float64 (float32 on MPS).
    """

    x0_prediction: Float[Tensor, "b c h w"]
    mean: Float[Tensor, "b c h w"]


@dataclass(frozen=True, eq=False, kw_only=True)
class StepEnd(StepMean):
    """State of a finished step.

    Attributes:
        z: the noise map, [b,c,h,w], or None if the step adds no noise.
        x_prev: x_{t-1}, [b,c,h,w], in the dtype of x_t.
    """

    z: Float[Tensor, "b c h w"] | None
    x_prev: Float[Tensor, "b c h w"]


Later = TypeVar("Later", bound=StepState)


def extend(state: StepState, kind: type[Later], **known: Any) -> Later:
    """Return the same step as an object of a later state class, with the fields that it adds."""
    return kind(**{each.name: getattr(state, each.name) for each in fields(state)}, **known)


def check_finite(value: Float[Tensor, "..."], name: str, i: int, steps: int, t: int) -> None:
    """Check that a tensor is finite.

    Raises:
        NonFinite: it contains NaN or infinity; the message names the step (from 1), the timestep and the tensor.
    """
    if not bool(torch.isfinite(value).all()):
        raise NonFinite(f"Step {i + 1} of {steps} (timestep {t}): {name} contains NaN or infinity.")
