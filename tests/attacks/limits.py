"""Helpers of the attack tests: limits of time and memory, and paths that are not regular files."""

import os
import resource
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sfumato.errors import BadInput

#: Enough for a busy machine; a reader that blocks would never finish.
SECONDS = 20


class Late(BaseException):
    """The time limit was exceeded. Not an Exception, so that no reader catches it as a decoding error."""


@contextmanager
def at_once(seconds: int = SECONDS) -> Iterator[None]:
    """Raise Late if the block takes longer than `seconds`."""

    def late(*_: object) -> None:
        raise Late(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def refused(match: str | None = None) -> Iterator[None]:
    """Expect a BadInput within the time limit whose message is one line without control characters."""
    with at_once(), pytest.raises(BadInput, match=match) as caught:
        yield
    sentence = str(caught.value)
    assert sentence.endswith((".", "?"))
    assert all(32 <= ord(c) != 127 for c in sentence)


def peak() -> int:
    """Peak memory of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


#: Kinds of paths that are not regular files; `place` creates them.
PLACES = ("fifo", "zero", "folder", "socket", "memory", "kernel", "loop", "missing", "null byte")


def place(folder: Path, kind: str, name: str) -> str:
    """Create something called `name` in `folder` that is not a regular file, and return its path."""
    path = folder / name
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        _socket(path)
    elif kind == "null byte":
        return f"{path}\0"
    elif kind != "missing":
        links = {"zero": "/dev/zero", "memory": "/proc/self/mem", "kernel": "/proc/kmsg", "loop": name}
        path.symlink_to(links[kind])
    return str(path)


def _socket(path: Path) -> None:
    """Bind by a relative name: the path of a socket has at most 107 bytes."""
    before = os.getcwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(before)
