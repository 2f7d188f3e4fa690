"""Checkpoints that survive `kill -9` at any moment.

A checkpoint is a folder `step-00001000/` of safetensors files. It is written beside its final name, every file is
flushed to the disk, the folder is renamed, and only then the marker file `COMPLETE` appears in it. A folder without
the marker is never read. At least two that can be read are kept; older ones are deleted, marker first, only after the
new one is complete. A run's folder may come from anywhere (SECURITY.md): what is in it is looked at before it is used.
"""

import json
import logging
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sfumato.errors import BadInput
from sfumato.files import explained, flush, printable, write_tensors, write_text
from sfumato.networks.configs import read_table
from sfumato.networks.weights import read_shapes

MARKER = "COMPLETE"
_NAME = re.compile(r"step-(\d{8})")
_DAMAGED = (OSError, ValueError, SafetensorError)
#: What a state says, and what it may say: a list or a table, and of what.
_SAID = {"step": int, "samples": int, "kind": str}
_MAY_SAY = {"files": (list, str), "bound_to": (dict, str), "ema_steps": (dict, int), "scaler": (dict, int | float)}
_LOG = logging.getLogger(__name__)

Contents: TypeAlias = tuple[dict[str, dict[str, Tensor]], dict[str, Any]]


def write_checkpoint(
    folder: Path, step: int, tensors: Mapping[str, Mapping[str, Tensor]], state: dict[str, Any], keep: int = 2
) -> Path:
    """Write one checkpoint and delete all but the newest `keep`.

    Args:
        folder: the run's `checkpoints` folder.
        step: number of finished optimizer steps.
        tensors: file name (without suffix) -> named tensors.
        state: small JSON-able values.
        keep: how many checkpoints that can be read stay, at least 2.

    Raises:
        BadInput: no room, or no permission; the checkpoints before stay.
    """
    if keep < 2:
        raise BadInput(f"keep must be at least 2, not {keep}: the newest checkpoint may be half written.")
    final, beside = folder / f"step-{step:08d}", folder / f".writing-{step:08d}"
    with explained(final):
        folder.mkdir(parents=True, exist_ok=True)
        _write(beside, {"step": step, "files": sorted(tensors), **state}, tensors)
        _delete(final)
        beside.rename(final)
        flush(folder)
        (final / MARKER).write_text("")
        flush(final / MARKER)
        flush(final)
        _sweep(folder, keep, step)
    return final


def _write(beside: Path, state: dict[str, Any], tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
    _delete(beside)
    beside.mkdir()
    for name, group in tensors.items():
        write_tensors(beside / f"{name}.safetensors", group)
    write_text(beside / "state.json", json.dumps(state, indent=1))
    flush(beside)


def valid_checkpoints(folder: Path) -> list[Path]:
    """All complete checkpoints, oldest first."""
    if not folder.is_dir():
        return []
    found = [p for p in folder.iterdir() if _NAME.fullmatch(p.name) and (p / MARKER).is_file()]
    return sorted(found, key=lambda p: p.name)


def newest_checkpoint(folder: Path) -> Path | None:
    """The complete checkpoint with the highest step, or None."""
    valid = valid_checkpoints(folder)
    return valid[-1] if valid else None


def newest_state(folder: Path) -> dict[str, Any] | None:
    """The state of the newest checkpoint whose state can be read, without its tensors; None where there is none."""
    for path in reversed(valid_checkpoints(folder)):
        with suppress(BadInput):
            return _state(path)
    return None


def read_checkpoint(path: Path) -> Contents:
    """The tensors and the state that `write_checkpoint` was given.

    Raises:
        BadInput: the state or a file of tensors is not what that writes; names it.
        SafetensorError: a file has changed since it was looked at.
    """
    state, files = _parts(path)
    return {file.stem: load_file(file) for file in files}, state


def _parts(path: Path) -> tuple[dict[str, Any], list[Path]]:
    """A checkpoint's state and the files of its tensors, which are whole and lie in it; none is read. Raises BadInput.

    Those of an older one do not stand in its state.
    """
    state = _state(path)
    names = state.pop("files", None)
    files = [path / f"{name}.safetensors" for name in names] if names else sorted(path.glob("*.safetensors"))
    for file in files:
        read_shapes(file, path)
    return state, files


def _state(path: Path) -> dict[str, Any]:
    """A checkpoint's state, of the types that are written. Raises BadInput."""
    state = read_table(path / "state.json", path)
    if (
        not all(isinstance(state.get(name), kind) for name, kind in _SAID.items())
        or not all(_holds(state[name], *kinds) for name, kinds in _MAY_SAY.items() if name in state)
        or path.name != f"step-{state['step']:08d}"
    ):
        raise BadInput(f"the state in {printable(path)} is not what a run writes: remove this checkpoint.")
    return state


def _holds(value: Any, outer: type, inner: Any) -> bool:
    each = value.values() if isinstance(value, dict) else value
    return isinstance(value, outer) and all(isinstance(one, inner) for one in each)


def _can_be_read(path: Path) -> bool:
    """Whether the files are all there and as long as they say, found without reading the tensors."""
    try:
        _parts(path)
    except _DAMAGED:
        return False
    return True


def read_newest(folder: Path) -> tuple[Path, Contents] | None:
    """The newest checkpoint that can be read, with its contents, or None where there is none at all.

    A complete checkpoint that a failing disk has damaged since is passed over with a logged warning.

    Raises:
        BadInput: there are checkpoints and none of them can be read.
    """
    valid = valid_checkpoints(folder)
    for path in reversed(valid):
        try:
            return path, read_checkpoint(path)
        except _DAMAGED as error:
            _LOG.warning("the checkpoint %s is damaged (%s); looking for the one before it.", path, error)
    if valid:
        raise BadInput(f"no checkpoint in {folder} can be read; give this run a new folder to start again.")
    return None


def _sweep(folder: Path, keep: int, step: int) -> None:
    """Delete old checkpoints, and what a killed process left half written.

    Of those up to `step` the newest `keep` that can be read stay, with all that are newer than the oldest of these:
    a damaged one, or one of steps that a run has gone back before, takes the place of none.
    """
    valid, readable = valid_checkpoints(folder), 0
    kept = set(valid)
    for path in reversed(valid):
        if readable == keep:
            kept.remove(path)
        elif path.name <= f"step-{step:08d}" and _can_be_read(path):
            readable += 1
    for path in folder.iterdir():
        if path.is_dir() and path not in kept and (_NAME.fullmatch(path.name) or path.name.startswith(".writing-")):
            _delete(path)


def _delete(path: Path) -> None:
    """The marker goes first: what is left by a kill during the rest is not taken for a checkpoint.

    Of a link the link alone goes.
    """
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        (path / MARKER).unlink(missing_ok=True)
        shutil.rmtree(path)
