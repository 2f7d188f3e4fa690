"""Files that are either whole or absent: written beside their place, then renamed."""

import os
from pathlib import Path

_SUFFIX = ".partial"


def write_bytes(path: Path, data: bytes, *, sync: bool = True) -> None:
    """Write `data` to `path` so that a reader, or a process killed meanwhile, never meets half a file.

    `sync` waits for the disk (needed against power loss, slow for thousands of small files).
    """
    partial = path.with_name(f".{path.name}{_SUFFIX}")
    with open(partial, "wb") as file:
        file.write(data)
        file.flush()
        if sync:
            os.fsync(file.fileno())
    os.replace(partial, path)


def write_text(path: Path, text: str) -> None:
    """`write_bytes` for UTF-8 text."""
    write_bytes(path, text.encode("utf-8"))


def remove_partial(folder: Path) -> None:
    """Delete what a killed process left half-written anywhere under `folder`."""
    for partial in folder.rglob(f".*{_SUFFIX}"):
        partial.unlink(missing_ok=True)
