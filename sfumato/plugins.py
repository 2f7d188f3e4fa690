"""Registries of named objects that are registered by modules of sfumato and of other packages.

All modules of one subpackage of sfumato are imported, and the modules that other packages declare in an entry point
group. An exception during the import of another package is recorded and has no other effect.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from operator import itemgetter
from pkgutil import iter_modules
from types import MappingProxyType
from typing import Any, TypeVar

from sfumato.errors import BadInput
from sfumato.suggestions import suggestion

T = TypeVar("T")


@dataclass(frozen=True)
class Unloaded:
    """An entry point of another package that could not be imported.

    Attributes:
        what: the kind of object.
        name: name of the entry point.
        package: name of the package.
        reason: the error message.
    """

    what: str
    name: str
    package: str
    reason: str

    @classmethod
    def from_error(cls, what: str, entry: EntryPoint, error: BaseException) -> "Unloaded":
        """Describe the exception that an entry point raised during its import."""
        first = (str(error).strip().splitlines() or ["no message"])[0]
        return cls(what, entry.name, package_of(entry), f"{type(error).__name__}: {first}")

    def __str__(self) -> str:
        return (
            f"the {self.what} {self.name!r} of the package {self.package} cannot be loaded ({self.reason}): "
            "install what it needs, or remove the package."
        )


class Registry(Mapping[str, T]):
    """Registered objects by name. The modules are imported at the first access.

    Args:
        what: the kind of object for error messages, such as "metric".
        package: subpackage whose modules are imported, such as "sfumato.metrics".
        group: the entry point group of other packages.
        order: sort key of a (name, object) pair; alphabetical by default. Ties keep the order of registration.
        modules: for subpackages that are slow to import, the module that registers each object, by name. `names` then
            imports nothing and `find` imports only one module. `find` also imports only one module if an object has the
            name of its module.
    """

    def __init__(
        self,
        what: str,
        package: str,
        group: str,
        order: Callable[[tuple[str, T]], Any] = itemgetter(0),
        modules: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.what, self.package, self.group, self.order, self.modules = what, package, group, order, modules
        self._registered: dict[str, T] = {}
        self._unloaded: list[Unloaded] = []
        self._imported = False
        self._lock = threading.RLock()

    def register(self, name: str, value: T) -> None:
        """Add an object. Raises BadInput if the name is taken."""
        with self._lock:
            if name in self._registered:
                raise BadInput(f"the {self.what} {name!r} is registered twice: rename one.")
            self._registered[name] = value

    def find(self, name: str) -> T:
        """The object with a name. Raises BadInput if it does not exist or its package cannot be imported."""
        if not isinstance(name, str):
            raise BadInput(f"The name of a {self.what} must be text, not {name!r}.")
        if name in (own := self._own(name)):
            return own[name]
        known = self._all()
        if name in known:
            return known[name]
        for failure in self._unloaded:
            if failure.name == name:
                raise BadInput(str(failure))
        raise BadInput(f"there is no {self.what} {name!r}{suggestion(name, known)}")

    @property
    def unloaded(self) -> list[Unloaded]:
        """The entry points of other packages that could not be imported."""
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
                self._imported = True  # first, because a module may read the registry during its import
                self._import()
            return dict(sorted(self._registered.items(), key=self.order))

    def names(self) -> list[str]:
        """All names, including those of other packages, whose modules are not imported."""
        own = self.modules or self._own()
        return sorted({*own, *(entry.name for entry in entry_points(group=self.group))})

    def _own(self, name: str = "") -> dict[str, T]:
        """The objects of the subpackage, or only the named one if its module is known; no other package is imported.

        The module is found in `modules` or by the name of the object: "edit_friendly" for "edit-friendly".
        """
        with self._lock:
            module = self.modules.get(name) or f"{self.package}.{name.replace('-', '_')}"
            if name in self.modules or (name.replace("-", "_").isidentifier() and find_spec(module)):
                import_module(module)
            if name not in self._registered:
                self._import_own()
            return self._registered

    def _import_own(self) -> None:
        for module in iter_modules(import_module(self.package).__path__, f"{self.package}."):
            import_module(module.name)

    def _import(self) -> None:
        self._import_own()
        for entry in entry_points(group=self.group):
            self._load(entry)

    def _load(self, entry: EntryPoint) -> None:
        """Import a module of another package; if this fails, its registered objects are removed."""
        before = dict(self._registered)
        try:
            entry.load()
        except (Exception, SystemExit) as error:  # code of another package may raise anything
            self._registered = before
            self._unloaded.append(Unloaded.from_error(self.what, entry, error))


def package_of(entry: EntryPoint) -> str:
    """Name of the package that an entry point belongs to."""
    return entry.value.partition(":")[0] if entry.dist is None else entry.dist.name
