"""Terms of an energy: each is one differentiable scalar per image, computed from one evaluation of the network."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from jaxtyping import Float
from torch import Tensor

from sfumato.core.energy import Energy, Value
from sfumato.core.rows import TARGET
from sfumato.core.state import NetworkTap, StepState


@dataclass(frozen=True, eq=False)
class Measurement:
    """A term of an energy in one step.

    Attributes:
        value: function of x_t and its predicted noise that returns the term, [b]; called after the evaluation, when the
            taps have recorded.
        taps: taps that record features or attention maps of the network, created for this step.
    """

    value: Value
    taps: Sequence[NetworkTap] = ()


class Term(Protocol):
    """Protocol of a term of an energy."""

    def measure(self, state: StepState, left: int = 1) -> Measurement:
        """Return the term for one step of the run; called before the evaluation of the network.

        Args:
            state: the step.
            left: number of consecutive steps, including this one, in which the term is used. The source can be
                evaluated for all of these steps in one batch.
        """


def weighted_sum(
    terms: Sequence[tuple[Term, float]],
    state: StepState,
    *,
    left: int = 1,
    name: str = "the energy",
    under: str = TARGET,
) -> Energy:
    """Combine terms into the energy g = sum_k w_k g_k of a step.

    Args:
        terms: the terms g_k with their weights w_k.
        state: the step.
        left: see `Term.measure`.
        name: name of the energy in error messages.
        under: name of the condition of the evaluation.
    """
    measured = [(term.measure(state, left), weight) for term, weight in terms]
    parts = [_times(weight, each.value) for each, weight in measured]

    def value(x: Float[Tensor, "b c h w"], eps: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        total = [part(x, eps) for part in parts]
        return sum(total[1:], total[0])

    taps = [tap for each, _ in measured for tap in each.taps]
    return Energy(value, taps, under, name, list(zip(map(label, [term for term, _ in terms]), parts, strict=True)))


def label(part: object) -> str:
    """Return the name of a term or loss in messages, such as 'centroid of "fox"' or "object overlap"."""
    kind = re.sub("(?<=[a-z])(?=[A-Z])", " ", type(part).__name__).lower()
    word = getattr(getattr(part, "word", None), "name", "")
    return f'{kind} of "{word}"' if word else kind


def _times(weight: float, value: Value) -> Value:
    return lambda x, eps: weight * value(x, eps)
