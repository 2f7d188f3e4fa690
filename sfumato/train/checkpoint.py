"""Checkpoints that survive `kill -9` at any moment.

A checkpoint is a folder `step-00001000/` of safetensors files. It is written beside its final name, every file is
flushed to the disk, the folder is renamed, and only then the marker file `COMPLETE` appears in it. A folder without
the marker is never read. At least two are kept, and old ones are deleted only after the new one is complete.
"""

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from sfumato.errors import BadInput

MARKER = "COMPLETE"
_NAME = re.compile(r"step-(\d{8})")


def write_checkpoint(
    folder: Path, step: int, tensors: Mapping[str, Mapping[str, Tensor]], state: dict[str, Any], keep: int = 2
) -> Path:
    """Write one checkpoint and delete all but the newest `keep`.

    Args:
        folder: the run's `checkpoints` folder.
        step: number of finished optimizer steps.
        tensors: file name (without suffix) -> named tensors.
        state: small JSON-able values.
        keep: how many valid checkpoints stay, at least 2.
    """
    if keep < 2:
        raise BadInput(f"keep must be at least 2, not {keep}: the newest checkpoint may be half written.")
    folder.mkdir(parents=True, exist_ok=True)
    final, beside = folder / f"step-{step:08d}", folder / f".writing-{step:08d}"
    for stale in (beside, final):
        if stale.exists():
            shutil.rmtree(stale)
    beside.mkdir()
    for name, group in tensors.items():
        save_file({k: v.detach().contiguous().cpu() for k, v in group.items()}, beside / f"{name}.safetensors")
    (beside / "state.json").write_text(json.dumps({"step": step, **state}, indent=1))
    for file in beside.iterdir():
        _flush(file)
    _flush(beside)
    beside.rename(final)
    _flush(folder)
    (final / MARKER).write_text("")
    _flush(final / MARKER)
    _flush(final)
    _sweep(folder, keep)
    return final


def newest_checkpoint(folder: Path) -> Path | None:
    """The complete checkpoint with the highest step, or None."""
    valid = valid_checkpoints(folder)
    return valid[-1] if valid else None


def valid_checkpoints(folder: Path) -> list[Path]:
    """All complete checkpoints, oldest first."""
    if not folder.is_dir():
        return []
    found = [p for p in folder.iterdir() if _NAME.fullmatch(p.name) and (p / MARKER).is_file()]
    return sorted(found, key=lambda p: p.name)


def read_checkpoint(path: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """The tensors and the state that `write_checkpoint` was given."""
    tensors = {file.stem: load_file(file) for file in sorted(path.glob("*.safetensors"))}
    return tensors, json.loads((path / "state.json").read_text())


def _sweep(folder: Path, keep: int) -> None:
    """Delete old checkpoints, and what a killed process left half written."""
    kept = set(valid_checkpoints(folder)[-keep:])
    for path in folder.iterdir():
        if path.is_dir() and path not in kept and (_NAME.fullmatch(path.name) or path.name.startswith(".writing-")):
            shutil.rmtree(path)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
