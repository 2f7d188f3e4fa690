"""Opening files that may come from anywhere: regular files alone, so that no pipe is waited for and no device read."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader

from sfumato.errors import BadInput
from sfumato.files import Named, printable

#: A pipe that takes the place of the file meanwhile is not waited for, nor does a terminal become the process' own.
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@contextmanager
def open_regular(path: Named, give: str) -> Iterator[BufferedReader]:
    """A regular file, open for reading; links to regular files are followed.

    Args:
        path: may be a name of any form, from anywhere.
        give: what to give instead, as the end of a sentence: "give an image file".

    Raises:
        BadInput: a folder, a pipe, a device, a socket, nothing at all, or what may not be read.
    """
    name = printable(path)
    if not name:
        raise BadInput(f"The name of the file is empty: {give}.")
    try:
        _check_kind(os.stat(path).st_mode, name, give)  # before opening: for some devices that has effects of its own
        file = open(os.open(path, _FLAGS), "rb")  # noqa: SIM115 - closed below
    except FileNotFoundError as error:
        broken = "is a link to a file that" if os.path.islink(path) else ""
        raise BadInput(f"{name} {broken} does not exist: check the path.".replace("  ", " ")) from error
    except PermissionError as error:
        raise BadInput(f"{name} may not be read: check its permissions.") from error
    except (OSError, ValueError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"{name} cannot be opened ({reason(error)}): check the path.") from error
    with file:
        _check_kind(os.fstat(file.fileno()).st_mode, name, give)
        if _is_generated(file.fileno()):
            raise BadInput(f"{name} is not an ordinary file: {give}.")
        yield file


def _is_generated(descriptor: int) -> bool:
    """Whether the kernel makes the content as it is read, as in /proc: such files claim to be empty, and are not."""
    try:
        return os.fstat(descriptor).st_size == 0 and os.pread(descriptor, 1, 0) != b""
    except OSError:
        return True


def read_bytes(path: Named, give: str, limit: int) -> bytes:
    """All bytes of a regular file of at most `limit` bytes.

    Raises:
        BadInput: as `open_regular`; or the file is longer, or cannot be read.
    """
    with open_regular(path, give) as file:
        try:
            content = file.read(limit + 1)
        except OSError as error:  # such as the files of /proc that are the memory of a process
            raise BadInput(f"{printable(path)} cannot be read ({reason(error)}): {give}.") from error
    if len(content) > limit:
        raise BadInput(f"{printable(path)} has more than {limit:,} bytes, which is the limit: {give}.")
    return content


def check_regular(path: Named, give: str) -> None:
    """Refuse what is no regular file that may be read, before a library opens it by its name. Raises BadInput."""
    with open_regular(path, give):
        pass


def reason(error: Exception) -> str:
    """What an error says, in one line of at most 200 characters; its name where it says nothing."""
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return printable(" ".join(said.split()).rstrip(".")[:200] or type(error).__name__)


def _check_kind(mode: int, name: str, give: str) -> None:
    if stat.S_ISDIR(mode):
        raise BadInput(f"{name} is a folder: {give}.")
    if not stat.S_ISREG(mode):
        raise BadInput(f"{name} is not an ordinary file: {give}.")
