"""Terms of an energy: one differentiable scalar per image each, measured in one evaluation of the network."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from jaxtyping import Float
from torch import Tensor

from sfumato.core.energy import Energy, Value
from sfumato.core.rows import TARGET
from sfumato.core.state import StepState


@dataclass(frozen=True, eq=False)
class Measurement:
    """A term in one step.

    Attributes:
        value: the term as a function of x_t and its predicted noise, after the taps have read; [b].
        taps: what it reads inside the network, fresh for this step.
    """

    value: Value
    taps: Sequence[Any] = ()


class Term(Protocol):
    """A term of an energy."""

    def measure(self, state: StepState, left: int = 1) -> Measurement:
        """The term in one step of the run; called before the evaluation.

        Args:
            state: the step.
            left: number of consecutive steps, this one included, in which the term acts; the source of several steps
                can be evaluated together.
        """


def weighted_sum(
    terms: Sequence[tuple[Term, float]],
    state: StepState,
    *,
    left: int = 1,
    name: str = "the energy",
    under: str = TARGET,
) -> Energy:
    """g = sum_k w_k g_k as one energy of the step.

    Args:
        terms: the terms g_k with their weights w_k.
        state: the step.
        left: see `Term.measure`.
        name: of the energy, for messages.
        under: name of the condition of the evaluation.
    """
    measured = [(term.measure(state, left), weight) for term, weight in terms]

    def value(x: Float[Tensor, "b c h w"], eps: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        total = [weight * each.value(x, eps) for each, weight in measured]
        return sum(total[1:], total[0])

    return Energy(value, [tap for each, _ in measured for tap in each.taps], under, name)
