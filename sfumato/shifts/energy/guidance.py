"""Guidance by an energy: gradient steps on the predicted noise or on the latent, in the steps of a schedule.

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
from sfumato.core.path import first_at
from sfumato.core.shift import PLACES, WORDS, Shift
from sfumato.core.state import StepState, check_finite
from sfumato.shifts.energy.term import Term, weighted_sum
from sfumato.shifts.energy.word import WordTerm

Schedule: TypeAlias = Callable[[int, int], bool]
"""Maps (i, steps) to whether step i of a run of `steps` steps is guided."""
Gradient: TypeAlias = Literal["unit", "sigma", "plain"]
"""G_t: the gradient divided by its root mean square per image, times sqrt(1 - abar_t), or unchanged."""


def window(start: float, end: float) -> Schedule:
    """Return the schedule of the steps from the fraction `start` to the fraction `end` of the run (0 to 1).

    The authors' notebook for Self-Guidance uses such a schedule.
    """
    return lambda i, steps: first_at(start, steps) <= i < first_at(end, steps)


def thirds(i: int, steps: int) -> bool:
    """The schedule of the Self-Guidance paper: the first 3/16 of the steps, then every second one up to the last 1/32.

    The paper uses 1024 steps. In shorter runs, 3/16 of the steps are rounded up, and the last step is never guided.
    """
    first = math.ceil(3 * steps / 16)
    return i < steps - max(1, steps / 32) and (i < first or (i - first) % 2 == 1)


@dataclass(frozen=True, eq=False)
class EnergyGuidance(Shift):
    """Base class of shifts that use the gradient of a weighted sum of terms, with one backward pass per guided step.

    Attributes:
        terms: the terms with their weights.
        scale: v, the weight of the gradient; with the gradient "unit", the root mean square of the change.
        schedule: which steps are guided.
        gradient: normalisation of the gradient, see `Gradient`.
        name: name of the energy in error messages.
    """

    terms: tuple[tuple[Term, float], ...]
    scale: float
    schedule: Schedule = thirds
    gradient: Gradient = "unit"
    name: str = "energy guidance"

    def energy(self, state: StepState) -> Energy | None:
        """Return the weighted sum of the terms in guided steps, otherwise None."""
        if not self._acts(state.i, state.steps):
            return None
        later = (i for i in range(state.i, state.steps) if not self.schedule(i, state.steps))
        return weighted_sum(self.terms, state, left=next(later, state.steps) - state.i, name=self.name)

    def reads(self, i: int, steps: int) -> tuple[str, ...]:
        """In guided steps the words, whose attention maps the terms read, and positions if a term compares them."""
        if not self._acts(i, steps):
            return ()
        places = any(isinstance(term, WordTerm) and term.compares_places for term, _ in self.terms)
        return (WORDS, PLACES) if places else (WORDS,)

    def size(self, i: int, steps: int) -> float:
        """Return v for step i of a run of `steps` steps."""
        return self.scale

    def move(self, state: StepState, like: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return v G_t in the dtype of `like`; 0 in steps without guidance."""
        if id(self) not in state.gradients:
            return torch.zeros_like(like)
        gradient = state.gradient(self).to(like.dtype)
        if self.gradient == "sigma":
            gradient = gradient * (1 - state.abar) ** 0.5
        elif self.gradient == "unit":
            rms = gradient.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
            check_finite(rms, f"the RMS of the gradient of {self.name}", state.i, state.steps, state.t)
            gradient = gradient / rms.where(rms > 0, rms.new_ones(()))
        return self.size(state.i, state.steps) * gradient

    def _acts(self, i: int, steps: int) -> bool:
        return bool(self.terms and self.scale and self.schedule(i, steps))


class NoiseGuidance(EnergyGuidance):
    """Guidance of the predicted noise, eps + v G_t: the score -eps / sqrt(1 - abar_t) is shifted to lower energies."""

    def noise(self, state: StepState, eps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return the guided noise."""
        return eps + self.move(state, eps)


class LatentGuidance(EnergyGuidance):
    """Guidance of the latent: a gradient step x_t - v G_t before the noise is predicted at the new x_t."""

    def latent(self, state: StepState, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return the latent after the gradient step; the same tensor in steps without guidance."""
        return x - self.move(state, x) if id(self) in state.gradients else x


@dataclass(frozen=True, eq=False)
class DecreasingSteps(LatentGuidance):
    """Gradient steps on x_t with step size v sqrt(1 - i / (2 (steps - 1))) in step i, as in Attend-and-Excite."""

    def size(self, i: int, steps: int) -> float:
        """Return the step size for step i of a run of `steps` steps."""
        return self.scale * float((1 - i / (2 * max(1, steps - 1))) ** 0.5)


@dataclass(frozen=True, eq=False, kw_only=True)
class IterativeRefinement(DecreasingSteps):
    """Gradient steps of decreasing size, repeated in some steps of the run: iterative latent refinement.

    Attend-and-Excite (arXiv 2301.13826, section 3): in step i, gradient steps on x_t are repeated until
    1 - max A <= 1 - a_i for every object; then the regular gradient step follows. An image that satisfies the condition
    is not changed while the gradient steps of other images of the batch are repeated.

    Attributes:
        thresholds: a_i by the fraction i / steps of the run.
        most: maximum number of repeated gradient steps in one step of the run.
    """

    thresholds: Mapping[float, float]
    most: int = 20

    def refine(self, state: StepState, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return x_t - v G_t for the images whose energy is above the threshold of this step, x_t for the others."""
        due = [a for fraction, a in self.thresholds.items() if round(fraction * state.steps) == state.i]
        if not due or state.refinements >= self.most or id(self) not in state.values:
            return x
        above = state.values[id(self)] > 1 - max(due)
        if not bool(above.any()):
            return x
        return torch.where(above[:, None, None, None], x - self.move(state, x), x)
