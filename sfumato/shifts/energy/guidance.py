"""Guidance by an energy: gradient steps on the predicted noise or on the latent, within a schedule.

eps <- eps + v G_t      Self-Guidance (arXiv 2306.00986); G_t = sqrt(1 - abar_t) grad g in the paper
x_t <- x_t - v G_t      Attend-and-Excite (arXiv 2301.13826), pix2pix-zero (arXiv 2302.03027, eq. 6)
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.energy import Energy
from sfumato.core.shift import WORDS, Shift
from sfumato.core.state import StepState
from sfumato.shifts.energy.term import Term, weighted_sum

Schedule: TypeAlias = Callable[[int, int], bool]
"""Whether step i of a run of so many steps is guided."""
Gradient: TypeAlias = Literal["unit", "sigma", "plain"]
"""G_t: the gradient divided by its root mean square per image, times sqrt(1 - abar_t), or as it is."""


def window(start: float, end: float) -> Schedule:
    """The steps from the share `start` to the share `end` of the run, as in the authors' notebook."""
    return lambda i, steps: start * steps <= i < end * steps


def thirds(i: int, steps: int) -> bool:
    """The schedule of the Self-Guidance paper: 3/16 of the steps guided, then every other one, the last 1/32 never.

    The paper has 1024 steps; in shorter runs 3/16 are rounded up, and the last step is never guided.
    """
    first = math.ceil(3 * steps / 16)
    return i < steps - max(1, steps / 32) and (i < first or (i - first) % 2 == 1)


@dataclass(frozen=True, eq=False)
class EnergyGuidance(Shift):
    """Base of shifts that use the gradient of a weighted sum of terms; one backward pass per step.

    Attributes:
        terms: the terms with their weights.
        scale: v; with the gradient "unit" the root mean square of the move.
        schedule: which steps are guided.
        gradient: see `Gradient`.
        name: for messages.
    """

    terms: tuple[tuple[Term, float], ...]
    scale: float
    schedule: Schedule = thirds
    gradient: Gradient = "unit"
    name: str = "energy guidance"

    def energy(self, state: StepState) -> Energy | None:
        """The sum of the terms in guided steps."""
        if not self._acts(state.i, state.steps):
            return None
        later = (i for i in range(state.i, state.steps) if not self.schedule(i, state.steps))
        return weighted_sum(self.terms, state, left=next(later, state.steps) - state.i, name=self.name)

    def reads(self, i: int, steps: int) -> tuple[str, ...]:
        """The words of the prompt in guided steps: the terms read their attention maps."""
        return (WORDS,) if self._acts(i, steps) else ()

    def size(self, i: int, steps: int) -> float:
        """v in step i of a run of `steps` steps."""
        return self.scale

    def move(self, state: StepState, like: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """v G_t, in the precision of `like`; 0 in steps without guidance."""
        if id(self) not in state.gradients:
            return torch.zeros_like(like)
        gradient = state.gradient(self).to(like.dtype)
        if self.gradient == "sigma":
            gradient = gradient * (1 - state.abar) ** 0.5
        elif self.gradient == "unit":
            rms = gradient.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
            gradient = gradient / rms.where(rms > 0, rms.new_ones(()))
        return self.size(state.i, state.steps) * gradient

    def _acts(self, i: int, steps: int) -> bool:
        return bool(self.terms and self.scale and self.schedule(i, steps))


class NoiseGuidance(EnergyGuidance):
    """eps + v G_t: the score -eps / sqrt(1 - abar_t) gets the direction of lower energy."""

    def noise(self, state: StepState, eps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The guided noise."""
        return eps + self.move(state, eps)


class LatentGuidance(EnergyGuidance):
    """x_t - v G_t: a gradient step before the prediction, which is evaluated at the new x_t."""

    def latent(self, state: StepState, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The latent after the step; the same tensor in steps without guidance."""
        return x - self.move(state, x) if id(self) in state.gradients else x


@dataclass(frozen=True, eq=False)
class FallingSteps(LatentGuidance):
    """Gradient steps whose size falls with the steps as sqrt(1 - i / (2 (steps - 1))), as in Attend-and-Excite."""

    def size(self, i: int, steps: int) -> float:
        """v of step i."""
        return self.scale * float((1 - i / (2 * max(1, steps - 1))) ** 0.5)


@dataclass(frozen=True, eq=False, kw_only=True)
class RefinedSteps(FallingSteps):
    """Falling steps, repeated in some steps of the run until the energy is low: iterative latent refinement.

    Attend-and-Excite (arXiv 2301.13826, section 3): in step i, x_t makes gradient steps until 1 - max A <= 1 - a_i for
    every object, and then the ordinary one. Images that have reached the threshold stay as they are meanwhile.

    Attributes:
        thresholds: a_i by the share i / steps of the run.
        most: largest number of repeated gradient steps in one step of the run.
    """

    thresholds: Mapping[float, float]
    most: int = 20

    def refine(self, state: StepState, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """x_t - v G_t for the images whose energy is above the threshold of this step."""
        due = [a for share, a in self.thresholds.items() if round(share * state.steps) == state.i]
        if not due or state.refinements >= self.most or id(self) not in state.values:
            return x
        above = state.values[id(self)] > 1 - max(due)
        if not bool(above.any()):
            return x
        return torch.where(above[:, None, None, None], x - self.move(state, x), x)
