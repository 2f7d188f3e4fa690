"""The ways to invert a picture, by name: each is a function from x_0 to an `Inversion`, one file each."""

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
    """Yields every step, returns the `Inversion`."""

    def __call__(
        self, guided: Guided, x0: Tensor, condition: Condition, params: Any, *, seeds: Sequence[int], batch: int | None
    ) -> Generator[StepEnd, None, Inversion]:
        """Invert images of one size.

        Args:
            guided: the network under the guidance of the source prompt, one row per image.
            x0: clean latents, float32 [b,c,h,w].
            condition: the source prompt, one row per image.
            params: the options of the run: steps, and what else the inversion takes.
            seeds: one per image.
            batch: most rows in one call of the network.
        """


@dataclass(frozen=True)
class InversionKind:
    """A way to invert.

    Attributes:
        name: what users call it.
        summary: one line about it.
        invert: from x_0 to an inversion.
        deterministic: its runs add no noise (eta = 0), so that there are no noise maps to edit.
    """

    name: str
    summary: str
    invert: Invert
    deterministic: bool


INVERSIONS: Registry[InversionKind] = Registry("inversion", "sfumato.inversion", "sfumato.inversions")
"""All inversions by name, in alphabetical order."""


def inversion(name: str, *, summary: str, deterministic: bool = False) -> Callable[[Invert], Invert]:
    """Register the decorated function as the inversion of that name.

    A package of others names its module in the entry point group `sfumato.inversions`.

    Raises:
        BadInput: there is one of that name.
    """

    def register(invert: Invert) -> Invert:
        INVERSIONS.register(name, InversionKind(name, summary, invert, deterministic))
        return invert

    return register
