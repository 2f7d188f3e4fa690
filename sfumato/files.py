"""Files and folders that are there whole or not at all: written beside their place, flushed to the disk, renamed.

A reader, or a kill at any moment, finds the old content or the new one. What cannot be written, for want of room or of
permission, is one sentence with the path.
"""

import errno
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from sfumato.errors import BadInput
from sfumato.partial_files import partial_file

if TYPE_CHECKING:
    from torch import Tensor

Named: TypeAlias = str | os.PathLike[str]

_NO_ROOM = dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "make room there or choose another place")
_NO_RIGHT = dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "check its permissions or choose another place")
_NO_FOLDER = dict.fromkeys((errno.ENOENT, errno.ENOTDIR), "create its folder first")


def printable(path: Named) -> str:
    """A path for messages that any terminal can print: odd bytes and control characters are escaped."""
    try:
        text = os.fsencode(path).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half a character that stands for no byte, as JSON can spell it: no file's name
        text = str(path)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def write_bytes(path: Named, content: bytes | memoryview, *, sync: bool = True) -> None:
    """Write a file with the permissions that the umask allows; a link is followed, not replaced.

    Args:
        path: the file; what was there is replaced.
        content: all of it.
        sync: wait for the disk (needed against power loss, slow for thousands of small files).

    Raises:
        BadInput: it cannot be written; what was there is untouched.
    """
    with explained(path, _NO_ROOM | _NO_RIGHT | _NO_FOLDER, otherwise="choose another place"):
        target = Path(os.path.realpath(path))
        with partial_file(target.parent) as (beside, file):
            file.write(content)
            file.flush()
            if sync:
                os.fsync(file.fileno())
            os.replace(beside, target)
        if sync:
            flush(target.parent)


def write_text(path: Named, text: str) -> None:
    """`write_bytes` for UTF-8 text; half a character (a lone surrogate) cannot be written, either."""
    try:
        content = text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise BadInput(
            f"{printable(path)} cannot be written: its text has half a character in it, remove it."
        ) from error
    write_bytes(path, content)


def write_tensors(path: Named, tensors: Mapping[str, "Tensor"], metadata: Mapping[str, str] | None = None) -> None:
    """`write_bytes` for a safetensors file; tensors may lie on any device, and take their size in memory once more.

    safetensors' own `save_file` gives its files to their owner alone, whatever the umask is.
    """
    from safetensors.torch import save

    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_bytes(path, save(contiguous, None if metadata is None else dict(metadata)))


@contextmanager
def replaced_folder(folder: Path) -> Iterator[Path]:
    """A new folder to write to, which takes the place of `folder` when all is written.

    After an exception `folder` is as it was. A kill leaves it so too, or, if it fell between the two renamings, as
    `.NAME.replaced`, which the next call puts back before it begins.

    Raises:
        BadInput: no room, or no permission.
    """
    with explained(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        beside, old = (folder.with_name(f".{folder.name}.{state}") for state in ("writing", "replaced"))
        _restore(old, folder)
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir()
        try:
            yield beside
            settle(beside)
            if folder.exists():
                folder.rename(old)
            beside.rename(folder)
            flush(folder.parent)
        finally:
            _restore(old, folder)
            shutil.rmtree(beside, ignore_errors=True)


def settle(folder: Path) -> None:
    """Flush a folder with all that is in it, and give its files the permissions that the folder got from the umask.

    safetensors gives the files that it writes to their owner alone.
    """
    allowed = folder.stat().st_mode & 0o666
    for path in (*folder.rglob("*"), folder):
        if path.is_file():
            path.chmod(allowed | path.stat().st_mode)
        flush(path)


def flush(path: Path) -> None:
    """Wait until a file, or the list of names of a folder, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _restore(old: Path, folder: Path) -> None:
    """Put the old folder back where no new one has come; else delete it."""
    if old.exists() and not folder.exists():
        old.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def explained(path: Named, remedies: Mapping[int, str] = _NO_ROOM | _NO_RIGHT, otherwise: str = "") -> Iterator[None]:
    """Errors of the system with a known remedy, or all where `otherwise` names one, become BadInput.

    Args:
        path: what is written meanwhile.
        remedies: by number of the error, what to do; by default where room or permission is missing.
        otherwise: what to do in all other cases; without it they stay as they are.
    """
    try:
        yield
    except Exception as error:
        number, reason = _of_system(error)
        remedy = remedies.get(number or 0, otherwise)
        if number is None or not remedy:
            raise
        raise BadInput(f"{printable(path)} cannot be written ({reason}): {remedy}.") from error


def _of_system(error: Exception) -> tuple[int | None, str]:
    """Number and words of an error of the system, 0 for a name that it does not take; None for all other errors.

    safetensors has the number in its message alone: "I/O error: No space left on device (os error 28)".
    """
    if isinstance(error, OSError):
        return error.errno or 0, error.strerror or str(error)
    if isinstance(error, ValueError) and not isinstance(error, BadInput):
        return 0, str(error)
    wrapped = re.search(r"\(os error (\d+)\)", str(error)) if type(error).__name__ == "SafetensorError" else None
    return (int(wrapped[1]), os.strerror(int(wrapped[1]))) if wrapped else (None, "")
