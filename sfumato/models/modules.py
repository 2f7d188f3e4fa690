"""Select modules of a network by name or pattern."""

import difflib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from typing import TypeAlias

from torch import nn

from sfumato.errors import BadInput

Names: TypeAlias = str | tuple[str, ...]
"""One or several names or patterns."""
_SPECIAL = set("*?[")


def named(network: nn.Module, names: Names, kind: type[nn.Module] = nn.Module) -> list[tuple[str, nn.Module]]:
    """The modules whose names match: names in the given order, patterns in the order of `network.named_modules()`.

    Args:
        network: the network.
        names: names, or shell-style patterns that are matched part by part: "down_blocks.*.resnets.*" matches all
            residual blocks, but not the modules in them. "**" matches any number of parts, including none.
        kind: select modules of this class only.

    Raises:
        BadInput: a name or pattern matches no module; the message lists similar names.
    """
    exact = (names,) if isinstance(names, str) else names
    if not any(_SPECIAL & set(name) for name in exact):
        with suppress(AttributeError):  # fast path for exact names: listing all modules of a large network is slow
            found = {name: network.get_submodule(name) for name in exact}
            if all(name and isinstance(module, kind) for name, module in found.items()):
                return list(found.items())
    return _matching_names(network, exact, kind)


def _matching_names(network: nn.Module, names: Sequence[str], kind: type[nn.Module]) -> list[tuple[str, nn.Module]]:
    modules = {name: module for name, module in network.named_modules() if name and isinstance(module, kind)}
    found: set[str] = set()
    for pattern in names:
        matching = [pattern] if pattern in modules else _matching(modules, pattern)
        if not matching:
            near = difflib.get_close_matches(pattern, modules, n=3, cutoff=0.4) or list(modules)[:3]
            listed = ", ".join(near) or "none"
            raise BadInput(f'The tap "{pattern}" names no module of the network; it has, for example, {listed}.')
        found.update(matching)
    return [(name, module) for name, module in modules.items() if name in found]


def _matching(names: Iterable[str], pattern: str) -> list[str]:
    patterns = pattern.split(".")
    return [name for name in names if _matches(name.split("."), patterns)]


def _matches(parts: Sequence[str], patterns: Sequence[str]) -> bool:
    if not patterns:
        return not parts
    if patterns[0] == "**":
        return any(_matches(parts[n:], patterns[1:]) for n in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], patterns[0]) and _matches(parts[1:], patterns[1:])
