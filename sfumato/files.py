"""Atomic writes of files and folders: written under a temporary name, flushed to the disk, then renamed.

A reader finds either the complete old content or the complete new content, even if the writer is killed at any moment.
A full disk or a missing permission raises BadInput: one sentence with the path.
"""

import errno
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
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
    """A path for messages, printable on any terminal: undecodable bytes and control characters are escaped."""
    try:
        text = os.fsencode(path).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # a lone surrogate that encodes no byte, from JSON; no file name contains it
        text = str(path)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def check_writable(path: Named, what: str) -> Path:
    """Check, before any work, that `write_bytes` can write a file.

    Args:
        path: the file.
        what: description of the file, such as "an image file".

    Returns:
        The path with links resolved.

    Raises:
        BadInput: the path is a folder or a special file, the name is not valid for a file, or the folder does not exist
            or is not writable.
    """
    name = printable(path)
    try:
        target = Path(os.path.realpath(path))
        check_name(target)
        if target.is_dir():
            raise BadInput(f"{name} is a folder: give the name of {what}.")
        if target.exists() and not target.is_file():
            raise BadInput(f"{name} is not a regular file: give the name of {what}.")
        if not target.parent.is_dir():
            raise BadInput(f"{name}: the folder {printable(target.parent)} does not exist: create it first.")
    except (OSError, ValueError) as error:
        if isinstance(error, BadInput):
            raise
        why = getattr(error, "strerror", None) or error
        raise BadInput(f"{name} cannot be used as an output path ({why}): choose another.") from error
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise BadInput(f"{name}: the folder {printable(target.parent)} may not be written to.")
    return target


def check_name(path: Path) -> None:
    """Check that a file in an existing folder can have this name. Raises OSError or ValueError."""
    with suppress(FileNotFoundError, NotADirectoryError):
        os.lstat(path)


def write_bytes(path: Named, content: bytes | memoryview, *, sync: bool = True) -> None:
    """Write a file atomically, with the permissions that the umask allows; a symbolic link is followed, not replaced.

    Args:
        path: the file; existing content is replaced.
        content: the complete content.
        sync: wait until the content is on the disk (protects against power loss; slow for thousands of small files).

    Raises:
        BadInput: the file cannot be written; existing content is unchanged.
    """
    with explained(path, _NO_ROOM | _NO_RIGHT | _NO_FOLDER, otherwise="choose another place"):
        target = Path(os.path.realpath(path))
        with partial_file(target.parent) as (temporary, file):
            file.write(content)
            file.flush()
            if sync:
                os.fsync(file.fileno())
            os.replace(temporary, target)
        if sync:
            flush(target.parent)


def write_text(path: Named, text: str) -> None:
    """`write_bytes` for UTF-8 text. Raises BadInput also for a lone surrogate, which UTF-8 cannot encode."""
    try:
        content = text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise BadInput(
            f"{printable(path)} cannot be written: its text contains an unpaired surrogate; remove it."
        ) from error
    write_bytes(path, content)


def write_tensors(path: Named, tensors: Mapping[str, "Tensor"], metadata: Mapping[str, str] | None = None) -> None:
    """`write_bytes` for a safetensors file; the tensors may be on any device and are copied once in CPU memory.

    `safetensors.torch.save_file` is not used because its files are readable by their owner only, whatever the umask is.
    """
    from safetensors.torch import save

    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_bytes(path, save(contiguous, None if metadata is None else dict(metadata)))


@contextmanager
def replaced_folder(folder: Path) -> Iterator[Path]:
    """Yield a new folder to write to, which replaces `folder` when the block ends.

    After an exception `folder` is unchanged. If the process is killed, `folder` is unchanged too, unless that happens
    between the two renames: the old content is then in `.NAME.replaced`, and the next call restores it first.

    Raises:
        BadInput: the disk is full, or a permission is missing.
    """
    with explained(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary, old = (folder.with_name(f".{folder.name}.{state}") for state in ("writing", "replaced"))
        _restore(old, folder)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        try:
            yield temporary
            settle(temporary)
            if folder.exists():
                folder.rename(old)
            temporary.rename(folder)
            flush(folder.parent)
        finally:
            _restore(old, folder)
            shutil.rmtree(temporary, ignore_errors=True)


def settle(folder: Path) -> None:
    """Flush a folder and its content to the disk, and give its files the permissions that the umask gave the folder.

    Files that safetensors writes are otherwise readable by their owner only.
    """
    allowed = folder.stat().st_mode & 0o666
    for path in (*folder.rglob("*"), folder):
        if path.is_file():
            path.chmod(allowed | path.stat().st_mode)
        flush(path)


def flush(path: Path) -> None:
    """Wait until a file, or the list of entries of a folder, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _restore(old: Path, folder: Path) -> None:
    """Rename the old folder back if no new one exists; otherwise delete it."""
    if old.exists() and not folder.exists():
        old.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def explained(path: Named, remedies: Mapping[int, str] = _NO_ROOM | _NO_RIGHT, otherwise: str = "") -> Iterator[None]:
    """Convert operating system errors with a known remedy to BadInput; with `otherwise`, all of them.

    Args:
        path: the file or folder that the block writes.
        remedies: what to do, by errno; by default for a full disk and for missing permissions.
        otherwise: what to do about all other errors; without it they are raised unchanged.
    """
    try:
        yield
    except Exception as error:
        number, reason = _system_error(error)
        remedy = remedies.get(number or 0, otherwise)
        if number is None or not remedy:
            raise
        raise BadInput(f"{printable(path)} cannot be written ({reason}): {remedy}.") from error


def _system_error(error: Exception) -> tuple[int | None, str]:
    """errno and message of an operating system error, errno 0 for an invalid file name; (None, "") for other errors.

    safetensors reports the errno only in its message: "I/O error: No space left on device (os error 28)".
    """
    if isinstance(error, OSError):
        return error.errno or 0, error.strerror or str(error)
    if isinstance(error, ValueError) and not isinstance(error, BadInput):
        return 0, str(error)
    wrapped = re.search(r"\(os error (\d+)\)", str(error)) if type(error).__name__ == "SafetensorError" else None
    return (int(wrapped[1]), os.strerror(int(wrapped[1]))) if wrapped else (None, "")
