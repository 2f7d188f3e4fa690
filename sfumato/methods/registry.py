"""The editing methods by name. A method is one file: a function with the decorator `method` in `sfumato.methods`.

Another package names its module in the entry point group `sfumato.methods`; see docs/extending.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from sfumato.errors import BadInput
from sfumato.methods.job import Job
from sfumato.methods.params import Params, kind_of, options_of
from sfumato.plugins import Registry

if TYPE_CHECKING:
    from sfumato.core.shift import Shift

HANDLES = ("condition", "latent", "features", "attention", "noise", "prediction", "noise map")
"""Quantities of the reverse process that a shift can change: docs/design.md, section 1."""


@runtime_checkable
class Shifts(Protocol):
    """Protocol of a method: returns its shifts, in order, for a job and the parameters of the method."""

    def __call__(self, job: Job, params: Any) -> list[Shift]:
        """Only text encoders and the autoencoder may be evaluated here."""


@dataclass(frozen=True)
class Method:
    """A published editing method: a preferred inversion and a list of shifts.

    Attributes:
        name: for users.
        summary: one line about it.
        params: class of its parameters.
        shifts: returns the shifts of an edit; see `sfumato.methods.job`.
        inversion: name of the preferred inversion.
        accepts: names of the inversions that it can edit.
        under_source: the run is conditioned on the source prompt, which the method changes, not on the target prompt.
        section: section of `sfumato.json` in a model folder with the model's own defaults for the method.
        generates: whether it also acts on images that are generated from noise; its job then has no source.
        handles: the `HANDLES` that it changes, without guidance, which every method has.
    """

    name: str
    summary: str
    params: type[Params]
    shifts: Shifts
    inversion: str
    accepts: tuple[str, ...]
    under_source: bool = False
    section: str = ""
    handles: tuple[str, ...] = ()
    generates: bool = False

    def check_accepts(self, inversion: str) -> None:
        """Refuse an inversion that the method cannot edit.

        Raises:
            BadInput: lists the inversions that it can edit.
        """
        if inversion not in self.accepts:
            raise BadInput(f"{self.name} edits inversions by {' or '.join(self.accepts)}, not by {inversion}.")


METHODS: Registry[Method] = Registry("method", "sfumato.methods", "sfumato.methods")
"""All methods by name, in alphabetical order."""


def method(
    name: str,
    *,
    summary: str,
    params: type[Params],
    inversion: str,
    accepts: tuple[str, ...] = (),
    under_source: bool = False,
    section: str = "",
    handles: tuple[str, ...] = (),
    generates: bool = False,
) -> Callable[[Shifts], Shifts]:
    """Register the decorated function as the `shifts` of a method; the arguments are those of `Method`.

    `accepts` defaults to the preferred inversion only.

    Raises:
        BadInput: another method has the name, a handle is unknown, or an option has an unknown type.
    """
    unknown = [handle for handle in handles if handle not in HANDLES]
    if unknown:
        raise BadInput(f"The method {name!r} changes {unknown[0]!r}, which is none of {', '.join(HANDLES)}.")

    for each in options_of(params).values():
        kind_of(each)

    def register(shifts: Shifts) -> Shifts:
        kinds = accepts or (inversion,)
        found = Method(name, summary, params, shifts, inversion, kinds, under_source, section, handles, generates)
        METHODS.register(name, found)
        return shifts

    return register
