"""The editing methods by name. A method is one file: a function with the decorator `method` in `sfumato.methods`.

Another package names its module in the entry point group `sfumato.methods`; see docs/extending.md.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from sfumato.core.shift import Shift
from sfumato.errors import BadInput
from sfumato.methods.job import Job
from sfumato.methods.params import Params
from sfumato.plugins import Registry

HANDLES = ("condition", "latent", "features", "attention", "noise", "prediction", "noise map")
"""What of the reverse process can be moved: docs/design.md, section 1."""


@runtime_checkable
class Shifts(Protocol):
    """From a job and a method's parameters to the shifts of the method, in order."""

    def __call__(self, job: Job, params: Any) -> list[Shift]:
        """Nothing is evaluated but text encoders and the autoencoder."""


@dataclass(frozen=True)
class Method:
    """A published method: an inversion that it prefers, and shifts.

    Attributes:
        name: what users call it.
        summary: one line about it.
        params: its parameters.
        shifts: what it moves; see `sfumato.methods.job`.
        inversion: name of the inversion that it prefers.
        accepts: names of the inversions that it edits.
        under_source: the run is conditioned on the source prompt, which the method moves, instead of the target prompt.
        section: the section of a model folder's `sfumato.json` that holds the model's own defaults.
        handles: which of the `HANDLES` it moves, guidance apart, which comes with every method.
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

    def check_accepts(self, inversion: str) -> None:
        """Refuse an inversion that the method cannot edit.

        Raises:
            BadInput: names those that it can.
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
) -> Callable[[Shifts], Shifts]:
    """Register the decorated function as the `shifts` of a method; the arguments are those of `Method`.

    `accepts` is the preferred inversion alone by default.

    Raises:
        BadInput: another method has the name, or a handle is none.
    """
    unknown = [handle for handle in handles if handle not in HANDLES]
    if unknown:
        raise BadInput(f"The method {name!r} moves {unknown[0]!r}, which is none of {', '.join(HANDLES)}.")

    def register(shifts: Shifts) -> Shifts:
        kinds = accepts or (inversion,)
        METHODS.register(name, Method(name, summary, params, shifts, inversion, kinds, under_source, section, handles))
        return shifts

    return register
