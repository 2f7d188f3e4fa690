"""The inversions by name. An inversion is one file: a generator with the decorator `inversion` in `sfumato.inversion`.

Another package names its module in the entry point group `sfumato.inversions`; see docs/extending.md.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from sfumato.core.condition import Condition
from sfumato.core.guidance import Guided
from sfumato.core.state import StepEnd
from sfumato.inversion.artifact import Inversion
from sfumato.plugins import Registry


@runtime_checkable
class Invert(Protocol):
    """Protocol of an inversion: a generator that yields every step and returns the `Inversion`."""

    def __call__(
        self, guided: Guided, x0: Tensor, condition: Condition, params: Any, *, seeds: Sequence[int], batch: int | None
    ) -> Generator[StepEnd, None, Inversion]:
        """Invert images of one size.

        Args:
            guided: the network with the guidance of the source prompt, one row per image.
            x0: clean latents, float32 [b,c,h,w].
            condition: the source prompt, one row per image.
            params: parameters of the method: steps and the other options of the inversion.
            seeds: one per image.
            batch: largest number of rows in one evaluation of the network.
        """


@dataclass(frozen=True)
class InversionKind:
    """An inversion.

    Attributes:
        name: for users.
        summary: one line about it.
        invert: computes the inversion of x_0.
        deterministic: whether its runs add no noise (eta = 0) and therefore have no noise maps.
    """

    name: str
    summary: str
    invert: Invert
    deterministic: bool


INVERSIONS: Registry[InversionKind] = Registry("inversion", "sfumato.inversion", "sfumato.inversions")
"""All inversions by name, in alphabetical order."""


def inversion(name: str, *, summary: str, deterministic: bool = False) -> Callable[[Invert], Invert]:
    """Register the decorated function as the inversion of that name.

    Raises:
        BadInput: another inversion has the name.
    """

    def register(invert: Invert) -> Invert:
        INVERSIONS.register(name, InversionKind(name, summary, invert, deterministic))
        return invert

    return register
