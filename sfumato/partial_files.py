"""Temporary files of atomic writes, next to their destination, and locked until the process ends.

The next process that writes to a folder removes temporary files of killed processes. Those of running processes, on
this machine and on other machines that share the folder, are not removed.
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

#: Names are .sfumato-MACHINE.KERNEL-TOKEN.partial; earlier versions wrote .sfumato-TOKEN.partial.
_PREFIX, _SUFFIX = ".sfumato-", ".partial"
_FLAGS = os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
_swept: set[str] = set()


@contextmanager
def partial_file(folder: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """Yield the path of a new file in a folder and the file, open for writing; an exception removes it.

    The first call of a process for a folder also removes temporary files of killed processes in that folder.
    """
    _sweep_once(folder)
    temporary, file = _new(folder)
    try:
        with file:
            yield temporary, file
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def remove_partial(folder: Path) -> None:
    """Delete the temporary files of killed processes anywhere under `folder`, except files that are being written."""
    for partial in folder.rglob(f"{_PREFIX}*{_SUFFIX}"):
        _remove_left(partial)


def hold(descriptor: int) -> bool:
    """Lock a file to mark it as being written; the lock ends with the process.

    Returns:
        Whether the file is locked; False on a file system without locks.

    Raises:
        BlockingIOError: another process holds the lock.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True


def _new(folder: Path) -> tuple[Path, BinaryIO]:
    """Create and lock a temporary file; its name is short, since the destination may have the longest possible name."""
    while True:
        temporary = folder / f"{_PREFIX}{_writer()}-{secrets.token_hex(8)}{_SUFFIX}"
        file = open(temporary, "xb")  # noqa: SIM115 - closed by the caller
        with suppress(BlockingIOError):
            hold(file.fileno())
            if temporary.exists():
                return temporary, file
        file.close()  # another process removed the file before it was locked


def _sweep_once(folder: Path) -> None:
    if (name := str(folder)) not in _swept:
        _swept.add(name)
        with suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(_PREFIX) and entry.name.endswith(_SUFFIX):
                    _remove_left(Path(entry.path))


def _remove_left(partial: Path) -> None:
    """Remove a file whose writer has ended: one of this machine or kernel, with a lock that nobody holds."""
    writer = partial.name.removeprefix(_PREFIX).rpartition("-")[0]
    if writer and not set(writer.split(".")) & set(_writer().split(".")):
        return  # written on another machine, whose locks may be invisible here
    with suppress(OSError):
        descriptor = os.open(partial, _FLAGS)
        try:
            if stat.S_ISREG(os.fstat(descriptor).st_mode) and hold(descriptor):
                partial.unlink()
        finally:
            os.close(descriptor)


@cache
def _writer() -> str:
    """MACHINE.KERNEL: eight hex digits for the machine and eight for the boot of its kernel, which containers share."""
    machine = f"{socket.gethostname()} {_content('/etc/machine-id')}"
    kernel = f"kernel {_content('/proc/sys/kernel/random/boot_id') or machine}"
    return ".".join(sha256(text.encode()).hexdigest()[:8] for text in (machine, kernel))


def _content(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii")
    except (OSError, ValueError):
        return ""
