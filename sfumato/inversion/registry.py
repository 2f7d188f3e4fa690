"""The registry of inversions. An inversion is a generator function with the decorator `inversion`, in one file.

Other packages register inversions through the entry point group `sfumato.inversions`; see docs/extending.md.
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
            batch: maximum number of rows per forward pass; None for the default.
        """


@dataclass(frozen=True)
class InversionKind:
    """A registered inversion.

    Attributes:
        name: name of the inversion, as users give it.
        summary: description in one line.
        invert: generator function that computes the inversion of x_0.
        deterministic: whether its steps add no noise (eta = 0). Such an inversion has no noise maps, or only residuals.
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
        BadInput: the name is already registered.
    """

    def register(invert: Invert) -> Invert:
        INVERSIONS.register(name, InversionKind(name, summary, invert, deterministic))
        return invert

    return register
