"""How a method is found: by its name, among the files of this folder and the entry points `sfumato.methods` of others.

A method is one file: whatever module of `sfumato.methods` holds the decorator `method` is found, and so is a module
that another package names under that group in its metadata.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pkgutil import iter_modules
from typing import Any, Protocol, runtime_checkable

import sfumato.methods
from sfumato.core.shift import Shift
from sfumato.errors import BadInput
from sfumato.methods.job import Job
from sfumato.methods.params import Params

HANDLES = ("condition", "latent", "features", "attention", "noise", "prediction", "noise map")
"""What of the reverse process can be moved: docs/design.md, section 1."""

_REGISTERED: dict[str, "Method"] = {}
_ENTRIES: dict[str, "Unloaded | None"] = {}
_FINDING = threading.RLock()


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


@dataclass(frozen=True)
class Unloaded:
    """A method of another package that could not be imported: the name that it goes by, its package, the error."""

    name: str
    package: str
    reason: str

    def __str__(self) -> str:
        return f"the method {self.name!r} of the package {self.package} cannot be loaded ({self.reason})"


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
        if name in _REGISTERED:
            raise BadInput(f"There are two methods called {name!r}: rename one.")
        _REGISTERED[name] = Method(
            name, summary, params, shifts, inversion, accepts or (inversion,), under_source, section, handles
        )
        return shifts

    return register


def methods() -> dict[str, Method]:
    """Every method by name, in alphabetical order; those of other packages that fail are passed over: `unloaded`."""
    with _FINDING:
        for module in iter_modules(sfumato.methods.__path__, "sfumato.methods."):
            import_module(module.name)
        for entry in entry_points(group="sfumato.methods"):
            key = f"{entry.name} = {entry.value}"
            if key not in _ENTRIES:
                _ENTRIES[key] = _load(entry)
        return dict(sorted(_REGISTERED.items()))


def unloaded() -> list[Unloaded]:
    """The methods of other packages that cannot be loaded, and why."""
    methods()
    return [failure for failure in _ENTRIES.values() if failure is not None]


def get_method(name: str) -> Method:
    """The method of that name.

    Raises:
        BadInput: there is none, or it cannot be loaded.
    """
    known = methods()
    if name not in known:
        for failure in unloaded():
            if failure.name == name:
                sentence = str(failure)
                raise BadInput(f"{sentence[0].upper()}{sentence[1:]}: install what it needs, or remove the package.")
        raise BadInput(f"There is no method {name!r}; choose one of {', '.join(known)}.")
    return known[name]


def _load(entry: EntryPoint) -> Unloaded | None:
    """Import another package's method; what it registered before it failed is forgotten."""
    before = dict(_REGISTERED)
    try:
        entry.load()
    except (Exception, SystemExit) as error:  # code of strangers: whatever it throws must not stop everything else
        _REGISTERED.clear()
        _REGISTERED.update(before)
        package = entry.value.partition(":")[0] if entry.dist is None else entry.dist.name
        first = (str(error).strip().splitlines() or ["no message"])[0]
        return Unloaded(entry.name, package, f"{type(error).__name__}: {first}")
    return None
