"""Lazy import of the public names of a package, so that importing the package does not import torch."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazily(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """Create the module-level `__getattr__` of a package (PEP 562), which imports names at their first use.

    For editors and type checkers, the package also imports the names under `typing.TYPE_CHECKING`. No name may be equal
    to that of a submodule, because Python would find the submodule instead.

    Args:
        package: `__name__` of the package.
        modules: public name -> module that defines it.
    """

    def find(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(modules[name]), name)

    return find
