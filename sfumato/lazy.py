"""Public names of a package that are imported at their first use: importing the package does not import torch."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazily(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """The function `__getattr__` of a package (PEP 562).

    For editors and type checkers, the package also imports the names under `typing.TYPE_CHECKING`. None of them may be
    the name of a module of the package, which Python would find instead.

    Args:
        package: `__name__` of the package.
        modules: public name -> module that defines it.
    """

    def find(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(modules[name]), name)

    return find
