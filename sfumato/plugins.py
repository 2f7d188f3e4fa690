"""Objects that modules register by name: those of one of our packages, and those of other packages.

A module of ours is found because it lies in the package; a module of another package because its metadata name it in
an entry point group. What another package raises while it is imported is kept, and affects nothing else.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from operator import itemgetter
from pkgutil import iter_modules
from typing import Any, TypeVar

from sfumato.errors import BadInput
from sfumato.suggestions import suggestion

T = TypeVar("T")


@dataclass(frozen=True)
class Unloaded:
    """An entry point of another package that could not be imported: what it would add, its name, package and error."""

    what: str
    name: str
    package: str
    reason: str

    @classmethod
    def from_error(cls, what: str, entry: EntryPoint, error: BaseException) -> "Unloaded":
        """What an entry point of that kind of object raised while it was imported."""
        first = (str(error).strip().splitlines() or ["no message"])[0]
        return cls(what, entry.name, package_of(entry), f"{type(error).__name__}: {first}")

    def __str__(self) -> str:
        return (
            f"the {self.what} {self.name!r} of the package {self.package} cannot be loaded ({self.reason}): "
            "install what it needs, or remove the package."
        )


class Registry(Mapping[str, T]):
    """What was registered, by name. The modules are imported when it is first read.

    Args:
        what: the kind of object, for error messages: "metric".
        package: the package whose modules are imported: "sfumato.metrics".
        group: the entry point group of other packages.
        order: sort key of a (name, object) pair; alphabetical by default. Equal ones stay in order of registration.
    """

    def __init__(
        self, what: str, package: str, group: str, order: Callable[[tuple[str, T]], Any] = itemgetter(0)
    ) -> None:
        self.what, self.package, self.group, self.order = what, package, group, order
        self._registered: dict[str, T] = {}
        self._unloaded: list[Unloaded] = []
        self._imported = False
        self._lock = threading.RLock()

    def register(self, name: str, value: T) -> None:
        """Add an object. Raises BadInput where the name is taken."""
        with self._lock:
            if name in self._registered:
                raise BadInput(f"the {self.what} {name!r} is registered twice: rename one.")
            self._registered[name] = value

    def find(self, name: str) -> T:
        """The object of that name. Raises BadInput where there is none, or where its package cannot be loaded."""
        known = self._all()
        if name in known:
            return known[name]
        for failure in self._unloaded:
            if failure.name == name:
                raise BadInput(str(failure))
        raise BadInput(f"there is no {self.what} {name!r}{suggestion(name, known)}")

    @property
    def unloaded(self) -> list[Unloaded]:
        """The entry points of other packages that cannot be loaded, and why."""
        self._all()
        return list(self._unloaded)

    def __getitem__(self, name: str) -> T:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def _all(self) -> dict[str, T]:
        with self._lock:
            if not self._imported:
                self._imported = True  # before the work: a module may read the registry while it is imported
                self._import()
            return dict(sorted(self._registered.items(), key=self.order))

    def _import(self) -> None:
        for module in iter_modules(import_module(self.package).__path__, f"{self.package}."):
            import_module(module.name)
        for entry in entry_points(group=self.group):
            self._load(entry)

    def _load(self, entry: EntryPoint) -> None:
        """Import a module of another package; what it registered before it failed is forgotten."""
        before = dict(self._registered)
        try:
            entry.load()
        except (Exception, SystemExit) as error:  # code of others: whatever it raises must not stop everything else
            self._registered = before
            self._unloaded.append(Unloaded.from_error(self.what, entry, error))


def package_of(entry: EntryPoint) -> str:
    """Name of the package that an entry point belongs to."""
    return entry.value.partition(":")[0] if entry.dist is None else entry.dist.name
