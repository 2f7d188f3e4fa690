"""Reads each network once per session: loading takes about a second, several times as long as an edit.

Every caller gets its own copy. A network is read again if a file in its folder has changed.
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
    """Cache the networks of models and the frozen networks of metrics."""
    for module in (models_folder, frozen):
        monkeypatch.setattr(module, "load_network", _load)


def uninstall(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read networks from their files in every call."""
    for module in (models_folder, frozen):
        monkeypatch.setattr(module, "load_network", load_network)


@functools.wraps(load_network)
def _load(kind: type[Any], folder: Path, **options: Any) -> Any:
    """As `load_network`, which is called if the network is not cached, so that all errors come from it."""
    key = (kind, str(folder), _state(folder), *sorted((name, str(value)) for name, value in options.items()))
    if key not in _read:
        _read[key] = load_network(kind, folder, **options)
        while len(_read) > KEPT:
            del _read[next(iter(_read))]
    return copy.deepcopy(_read[key])


def _state(folder: Path) -> tuple[Any, ...]:
    """The state of the files of a folder; it changes when a file is written or replaced."""
    files = [(path, path.stat()) for path in sorted(Path(folder).glob("*")) if path.exists()]
    return tuple((str(path), state.st_ino, state.st_size, state.st_mtime_ns) for path, state in files)
