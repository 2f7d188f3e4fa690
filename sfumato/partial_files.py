"""Files while they are being written, beside their place: marked by a lock that goes with the process.

What a killed process left is removed by the next one that writes to the folder, and nothing that a living one writes,
on this machine or on another one that shares the folder.
"""

import fcntl
import os
import secrets
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

#: .sfumato-MACHINE.KERNEL-TOKEN.partial; without the part in the middle in files of earlier versions.
_PREFIX, _SUFFIX = ".sfumato-", ".partial"
_FLAGS = os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
_swept: set[str] = set()


@contextmanager
def partial_file(folder: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """A new file in a folder, open for writing, and removed at the end where it has not been renamed.

    The first one that a process makes in a folder is preceded by `remove_partial` for it.
    """
    _sweep_once(folder)
    beside, file = _new(folder)
    try:
        with file:
            yield beside, file
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def remove_partial(folder: Path) -> None:
    """Delete what killed processes left half-written anywhere under `folder`, and nothing that is being written."""
    for partial in folder.rglob(f"{_PREFIX}*{_SUFFIX}"):
        _remove_left(partial)


def hold(descriptor: int) -> bool:
    """Mark a file as being written; the mark goes with the process.

    Returns:
        whether it is marked: on a file system without locks nothing is.

    Raises:
        BlockingIOError: another process holds it.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True


def _new(folder: Path) -> tuple[Path, BinaryIO]:
    """Not named after what it becomes, whose name may be as long as names can be."""
    while True:
        beside = folder / f"{_PREFIX}{_writer()}-{secrets.token_hex(8)}{_SUFFIX}"
        file = open(beside, "xb")  # noqa: SIM115 - closed by the caller
        with suppress(BlockingIOError):
            hold(file.fileno())
            if beside.exists():
                return beside, file
        file.close()  # between the two lines above another process took it for one that was left


def _sweep_once(folder: Path) -> None:
    if (name := str(folder)) not in _swept:
        _swept.add(name)
        with suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(_PREFIX) and entry.name.endswith(_SUFFIX):
                    _remove_left(Path(entry.path))


def _remove_left(partial: Path) -> None:
    """Remove a file whose writer is gone: it was one of this machine or kernel, and nobody holds its lock."""
    writer = partial.name.removeprefix(_PREFIX).rpartition("-")[0]
    if writer and not set(writer.split(".")) & set(_writer().split(".")):
        return  # another machine's: its locks may not be seen here
    with suppress(OSError):
        descriptor = os.open(partial, _FLAGS)
        try:
            if stat.S_ISREG(os.fstat(descriptor).st_mode) and hold(descriptor):
                partial.unlink()
        finally:
            os.close(descriptor)


@cache
def _writer() -> str:
    """MACHINE.KERNEL: eight letters for this machine and eight for this run of its kernel, which containers share."""
    machine = f"{socket.gethostname()} {_content('/etc/machine-id')}"
    kernel = f"kernel {_content('/proc/sys/kernel/random/boot_id') or machine}"
    return ".".join(sha256(text.encode()).hexdigest()[:8] for text in (machine, kernel))


def _content(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii")
    except (OSError, ValueError):
        return ""
