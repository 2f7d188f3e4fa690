"""Checkpoints that stay readable if the process is killed at any time.

A checkpoint is a folder `step-00001000/` of safetensors files. It is written under a temporary name, every file is
flushed to disk, the folder is renamed, and the marker file `COMPLETE` is written last. A folder without the marker is
never read. At least two readable checkpoints are kept; older ones are deleted, marker first, only after the new one is
complete. The folder of a run is untrusted input (SECURITY.md): its files are checked before they are read.
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
from sfumato.networks.tables import read_table
from sfumato.networks.weights import read_shapes

MARKER = "COMPLETE"
_NAME = re.compile(r"step-(\d{8})")
_DAMAGED = (OSError, ValueError, SafetensorError)
#: Required entries of a state and their types, and optional entries: the type of the container and of its values.
_REQUIRED = {"step": int, "samples": int, "kind": str}
_OPTIONAL = {
    "files": (list, str), "bound_to": (dict, str), "precision_of": (dict, str), "ema_steps": (dict, int),
    "scaler": (dict, int | float),
}  # fmt: skip
_LOG = logging.getLogger(__name__)

Contents: TypeAlias = tuple[dict[str, dict[str, Tensor]], dict[str, Any]]


def write_checkpoint(
    folder: Path, step: int, tensors: Mapping[str, Mapping[str, Tensor]], state: dict[str, Any], keep: int = 2
) -> Path:
    """Write a checkpoint and delete all but the newest `keep`.

    Args:
        folder: the folder `checkpoints` of the run.
        step: number of finished training steps.
        tensors: file name (without suffix) -> named tensors.
        state: small values that JSON can represent.
        keep: number of readable checkpoints to keep, at least 2.

    Returns:
        The folder of the new checkpoint.

    Raises:
        BadInput: the disk is full or the folder cannot be written; earlier checkpoints are not deleted.
    """
    if keep < 2:
        raise BadInput(f"keep must be at least 2, not {keep}: the newest checkpoint may be incomplete.")
    final, temporary = folder / f"step-{step:08d}", folder / f".writing-{step:08d}"
    with explained(final):
        folder.mkdir(parents=True, exist_ok=True)
        _write(temporary, {"step": step, "files": sorted(tensors), **state}, tensors)
        _delete(final)
        temporary.rename(final)
        flush(folder)
        (final / MARKER).write_text("")
        flush(final / MARKER)
        flush(final)
        _sweep(folder, keep, step)
    return final


def _write(temporary: Path, state: dict[str, Any], tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
    _delete(temporary)
    temporary.mkdir()
    for name, group in tensors.items():
        write_tensors(temporary / f"{name}.safetensors", group)
    write_text(temporary / "state.json", json.dumps(state, indent=1))
    flush(temporary)


def valid_checkpoints(folder: Path) -> list[Path]:
    """All complete checkpoints, oldest first."""
    if not folder.is_dir():
        return []
    found = [p for p in folder.iterdir() if _NAME.fullmatch(p.name) and (p / MARKER).is_file()]
    return sorted(found, key=lambda p: p.name)


def newest_checkpoint(folder: Path) -> Path | None:
    """The complete checkpoint with the highest step; None without one."""
    valid = valid_checkpoints(folder)
    return valid[-1] if valid else None


def newest_state(folder: Path) -> dict[str, Any] | None:
    """The state of the newest checkpoint with a readable state, without loading tensors; None without one."""
    for path in reversed(valid_checkpoints(folder)):
        with suppress(BadInput):
            return _state(path)
    return None


def read_checkpoint(path: Path) -> Contents:
    """Read the tensors and the state of a checkpoint.

    Returns:
        `tensors` and `state` as passed to `write_checkpoint`; the state also contains `step`.

    Raises:
        BadInput: the state or a file of tensors is invalid; the message names it.
        SafetensorError: a file changed after it was checked.
    """
    state, files = _parts(path)
    return {file.stem: load_file(file) for file in files}, state


def _parts(path: Path) -> tuple[dict[str, Any], list[Path]]:
    """State of a checkpoint and its tensor files, checked to be complete and inside its folder. Raises BadInput.

    The tensors are not read. States of older versions do not list the files.
    """
    state = _state(path)
    names = state.pop("files", None)
    files = [path / f"{name}.safetensors" for name in names] if names else sorted(path.glob("*.safetensors"))
    for file in files:
        read_shapes(file, path)
    return state, files


def _state(path: Path) -> dict[str, Any]:
    """Read the state of a checkpoint and check its types. Raises BadInput."""
    state = read_table(path / "state.json", path)
    if (
        not all(isinstance(state.get(name), kind) for name, kind in _REQUIRED.items())
        or not all(_has_types(state[name], *kinds) for name, kinds in _OPTIONAL.items() if name in state)
        or path.name != f"step-{state['step']:08d}"
    ):
        raise BadInput(f"the state in {printable(path)} has missing or invalid entries: remove this checkpoint.")
    return state


def _has_types(value: Any, outer: type, inner: Any) -> bool:
    each = value.values() if isinstance(value, dict) else value
    return isinstance(value, outer) and all(isinstance(one, inner) for one in each)


def _can_be_read(path: Path) -> bool:
    """Whether all files exist and have the length that their headers give; the tensors are not read."""
    try:
        _parts(path)
    except _DAMAGED:
        return False
    return True


def read_newest(folder: Path) -> tuple[Path, Contents] | None:
    """Read the newest readable checkpoint of the folder `checkpoints` of a run.

    A damaged checkpoint is skipped with a warning in the log.

    Returns:
        The folder and the contents of the checkpoint; None if there are no checkpoints.

    Raises:
        BadInput: there are checkpoints, but none can be read.
    """
    valid = valid_checkpoints(folder)
    for path in reversed(valid):
        try:
            return path, read_checkpoint(path)
        except _DAMAGED as error:
            _LOG.warning("the checkpoint %s is damaged (%s); trying the previous one.", path, error)
    if valid:
        raise BadInput(f"no checkpoint in {folder} can be read; use a new folder to train from the beginning.")
    return None


def _sweep(folder: Path, keep: int, step: int) -> None:
    """Delete old checkpoints, and the incomplete ones of killed processes.

    The newest `keep` readable checkpoints up to `step` are kept, and everything newer than the oldest of them. Damaged
    checkpoints, and those after `step` (of a run that resumed from an earlier step), do not count towards `keep`.
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
    """Delete a checkpoint, marker first: if the process is killed meanwhile, the rest does not count as a checkpoint.

    Of a symbolic link only the link is deleted.
    """
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        (path / MARKER).unlink(missing_ok=True)
        shutil.rmtree(path)
