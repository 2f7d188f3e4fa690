"""Open untrusted paths: only regular files, so that pipes do not block and devices are not read."""

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from sfumato.errors import BadInput
from sfumato.files import Named, printable

#: O_NONBLOCK: do not wait for a pipe that replaced the file after the check. O_NOCTTY: do not adopt a terminal as the
#: controlling terminal of the process.
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@contextmanager
def open_regular(path: Named, give: str) -> Iterator[BufferedReader]:
    """Yield a regular file, open for reading; symbolic links to regular files are followed.

    Args:
        path: an untrusted path.
        give: advice at the end of the error message, such as "give an image file".

    Raises:
        BadInput: the path is a folder, pipe, device or socket, does not exist or is not readable.
    """
    name = printable(path)
    if not name:
        raise BadInput(f"The name of the file is empty: {give}.")
    try:
        _check_kind(os.stat(path).st_mode, name, give)  # before opening, which has side effects on some devices
        file = open(os.open(path, _FLAGS), "rb")  # noqa: SIM115 - closed below
    except FileNotFoundError as error:
        broken = "is a link to a file that" if os.path.islink(path) else ""
        raise BadInput(f"{name} {broken} does not exist: check the path.".replace("  ", " ")) from error
    except PermissionError as error:
        raise BadInput(f"{name}: permission denied.") from error
    except (OSError, ValueError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"{name} cannot be opened ({reason(error)}): check the path.") from error
    with file:
        _check_kind(os.fstat(file.fileno()).st_mode, name, give)
        if _is_generated(file.fileno()):
            raise BadInput(f"{name} is not a regular file: {give}.")
        yield file


def _is_generated(descriptor: int) -> bool:
    """Whether the kernel generates the content on reading, as in /proc: such files report size 0 but have content."""
    try:
        return os.fstat(descriptor).st_size == 0 and os.pread(descriptor, 1, 0) != b""
    except OSError:
        return True


def read_bytes(path: Named, give: str, limit: int) -> bytes:
    """All bytes of a regular file of at most `limit` bytes.

    Raises:
        BadInput: as `open_regular`; or the file is larger than `limit`, or reading fails.
    """
    with open_regular(path, give) as file:
        try:
            content = file.read(limit + 1)
        except OSError as error:  # for example /proc/PID/mem, the memory of a process
            raise BadInput(f"{printable(path)} cannot be read ({reason(error)}): {give}.") from error
    if len(content) > limit:
        raise BadInput(f"{printable(path)} is larger than the limit of {limit:,} bytes: {give}.")
    return content


def file_hash(path: Named, give: str) -> str:
    """SHA-256 of the content of a regular file in hexadecimal, as `sha256sum` prints it.

    Raises:
        BadInput: as `open_regular`; or reading fails.
    """
    with open_regular(path, give) as file:
        try:
            return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise BadInput(f"{printable(path)} cannot be read ({reason(error)}): {give}.") from error


def content_hash(path: Path) -> str:
    """SHA-256 of a file or a folder in hexadecimal.

    The hash of a folder is that of the lines "HASH  NAME" of its files in the order of their names, as `sha256sum *`
    prints them.

    Raises:
        BadInput: a file cannot be read.
    """
    if not path.is_dir():
        return file_hash(path, "give the file again")
    files = sorted(each for each in path.iterdir() if each.is_file())
    lines = "".join(f"{file_hash(each, 'give the folder again')}  {each.name}\n" for each in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def check_regular(path: Named, give: str) -> None:
    """Raise BadInput unless the path is a readable regular file, before a library opens it."""
    with open_regular(path, give):
        pass


def reason(error: Exception) -> str:
    """Message of an exception on one line of at most 200 characters, or the name of its class if it is empty."""
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return printable(" ".join(said.split()).rstrip(".")[:200] or type(error).__name__)


def _check_kind(mode: int, name: str, give: str) -> None:
    if stat.S_ISDIR(mode):
        raise BadInput(f"{name} is a folder: {give}.")
    if not stat.S_ISREG(mode):
        raise BadInput(f"{name} is not a regular file: {give}.")
