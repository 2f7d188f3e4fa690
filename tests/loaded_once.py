"""Networks read once per session: a command or a call of `load` takes a second for it, several times its edit.

Whoever loads a network gets a copy of its own. A network is read again if a file in its folder has changed.
"""

import copy
import functools
from pathlib import Path
from typing import Any

import pytest

from sfumato.metrics import frozen
from sfumato.models import folder as models_folder
from sfumato.networks.load import load_network

KEPT = 32

_read: dict[tuple[Any, ...], Any] = {}


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """For models and for the frozen networks of metrics."""
    for module in (models_folder, frozen):
        monkeypatch.setattr(module, "load_network", _load)


def uninstall(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read every time."""
    for module in (models_folder, frozen):
        monkeypatch.setattr(module, "load_network", load_network)


@functools.wraps(load_network)
def _load(kind: type[Any], folder: Path, **options: Any) -> Any:
    """As `load_network`, which is called where nothing is kept, so that all errors are its own."""
    key = (kind, str(folder), _state(folder), *sorted((name, str(value)) for name, value in options.items()))
    if key not in _read:
        _read[key] = load_network(kind, folder, **options)
        while len(_read) > KEPT:
            del _read[next(iter(_read))]
    return copy.deepcopy(_read[key])


def _state(folder: Path) -> tuple[Any, ...]:
    """What changes when a file is written or replaced."""
    files = [(path, path.stat()) for path in sorted(Path(folder).glob("*")) if path.exists()]
    return tuple((str(path), state.st_ino, state.st_size, state.st_mtime_ns) for path, state in files)
