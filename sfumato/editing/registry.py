"""The registry of editing methods. A method is a function with the decorator `method`, in one file.

Other packages register methods through the entry point group `sfumato.methods`; see docs/extending.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from sfumato.editing.job import Job
from sfumato.errors import BadInput
from sfumato.options.option import kind_of
from sfumato.options.params import Params, options_of
from sfumato.plugins import Registry

if TYPE_CHECKING:
    from sfumato.core.shift import Shift

HANDLES = ("condition", "latent", "features", "attention", "noise", "prediction", "noise map")
"""Quantities of the reverse process that a shift can change: docs/design.md, section 1."""


@runtime_checkable
class Shifts(Protocol):
    """Protocol of the function of a method."""

    def __call__(self, job: Job, params: Any) -> list[Shift]:
        """Return the shifts of the method, in order; only text encoders and the autoencoder may be evaluated.

        Args:
            job: inverted images and the conditions of their edit.
            params: parameters of the method.
        """


@dataclass(frozen=True)
class Method:
    """A published editing method: a preferred inversion and a list of shifts.

    Attributes:
        name: name of the method, as users give it.
        summary: description in one line.
        params: class of the parameters.
        shifts: function that returns the shifts of an edit for a job, see `sfumato.editing.job`.
        inversion: name of the preferred inversion.
        accepts: names of the inversions that the method can be combined with.
        under_source: whether the run is conditioned on the source prompt, or a condition that the method derives from
            it, instead of the target prompt.
        section: section of `sfumato.json` in a model folder that contains defaults of the model for the method.
        generates: whether the method can also be used for images that are generated from noise; its job then has no
            source.
        handles: the `HANDLES` that the method changes. Guidance, which all methods use, is not listed.
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

    def inversion_of(self, params: Params) -> str:
        """Return the name of the inversion that parameters of the method select; the preferred one without a choice."""
        return str(getattr(params, "inversion", self.inversion))

    def reads_target(self, params: Params, under_source: bool) -> bool:
        """Return whether the method reads the target prompt instead of the source prompt in a run.

        Args:
            params: its parameters.
            under_source: whether the run is conditioned on the source prompt.
        """
        return params.reads_target or self.under_source or not under_source

    def check_accepts(self, inversion: str) -> None:
        """Check that the method can be combined with an inversion.

        Raises:
            BadInput: it cannot; the message lists the accepted inversions.
        """
        if inversion not in self.accepts:
            raise BadInput(f"{self.name} edits inversions by {' or '.join(self.accepts)}, not by {inversion}.")


METHODS: Registry[Method] = Registry("method", "sfumato.methods", "sfumato.methods")
"""All methods by name, in alphabetical order."""


def check_once(methods: Sequence[Method]) -> None:
    """Raise BadInput if a method is named twice in one edit or generation."""
    names = [each.name for each in methods]
    for name in names:
        if names.count(name) > 1:
            raise BadInput(f"The method {name} is named twice: name it once.")


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
    """Register the decorated function as the `shifts` of a method; the arguments are the attributes of `Method`.

    By default, `accepts` contains only the preferred inversion.

    Raises:
        BadInput: the name is already registered, a handle is unknown, or an option has an unsupported type.
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
