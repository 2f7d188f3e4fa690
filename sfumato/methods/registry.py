"""How a method is found: by its name, among our own files and the entry points `sfumato.methods` of other packages."""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Protocol

from torch import Tensor

from sfumato.core.guidance import Guided
from sfumato.core.shift import Shift
from sfumato.core.state import StepState
from sfumato.errors import BadInput
from sfumato.inversion import Inversion
from sfumato.methods.params import Params

_OURS = ("edit_friendly", "ddim", "native_ddpm")
_REGISTERED: dict[str, "Method"] = {}


class Invert(Protocol):
    """Yields every step, returns the `Inversion`."""

    def __call__(
        self,
        guided: Guided,
        x0: Tensor,
        condition: Any,
        params: Any,
        *,
        seeds: Sequence[int],
        batch: int | None,
    ) -> Generator[StepState, None, Inversion]:
        """x0 [b,c,h,w] float32; condition, guidance and seeds have one row per image."""


class Edit(Protocol):
    """Yields every step; x_prev of the last one is the edited x_0."""

    def __call__(
        self, guided: Guided, inversion: Inversion, condition: Any, params: Any, *, shifts: Sequence[Shift]
    ) -> Iterator[StepState]:
        """Guidance and condition are the target's, one row per image of the inversion."""


@dataclass(frozen=True)
class Method:
    """A published method.

    Attributes:
        name: what users call it.
        summary: one line about it.
        params: its parameters.
        invert: from x_0 to an inversion.
        edit: from an inversion to an edited x_0.
        section: the section of a model folder's `sfumato.json` that holds the model's own defaults.
    """

    name: str
    summary: str
    params: type[Params]
    invert: Invert
    edit: Edit
    section: str = ""


def method(
    name: str, *, summary: str, params: type[Params], invert: Invert, section: str = ""
) -> Callable[[Edit], Edit]:
    """Register the decorated function as the `edit` of a method.

    Raises:
        BadInput: another method has the name.
    """

    def register(edit: Edit) -> Edit:
        if name in _REGISTERED:
            raise BadInput(f"There are two methods called {name!r}: rename one.")
        _REGISTERED[name] = Method(name, summary, params, invert, edit, section)
        return edit

    return register


def methods() -> dict[str, Method]:
    """Every method by name: ours first, then those of other packages."""
    for module in _OURS:
        import_module(f"sfumato.methods.{module}")
    for entry in entry_points(group="sfumato.methods"):
        entry.load()
    return dict(_REGISTERED)


def get_method(name: str) -> Method:
    """The method of that name.

    Raises:
        BadInput: there is none; names those that there are.
    """
    known = methods()
    if name not in known:
        raise BadInput(f"There is no method {name!r}; choose one of {', '.join(known)}.")
    return known[name]
