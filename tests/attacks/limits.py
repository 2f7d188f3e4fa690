"""What the attacks are held against: a limit of time and of memory, and places that no program may read from."""

import os
import resource
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sfumato.errors import BadInput

#: Long enough for a machine that is busy; what is held against it would wait for ever.
SECONDS = 20


class Late(BaseException):
    """Not an Exception, so that no reader takes it for a decoder's error."""


@contextmanager
def at_once(seconds: int = SECONDS) -> Iterator[None]:
    """Raise Late where what is within takes longer."""

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
    """One sentence, at once, that any terminal can print."""
    with at_once(), pytest.raises(BadInput, match=match) as caught:
        yield
    sentence = str(caught.value)
    assert sentence.endswith((".", "?"))
    assert all(32 <= ord(c) != 127 for c in sentence)


def peak() -> int:
    """Largest memory of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


#: What is no regular file, by the name of a way to make it.
PLACES = ("fifo", "zero", "folder", "socket", "memory", "kernel", "loop", "missing", "null byte")


def place(folder: Path, kind: str, name: str) -> str:
    """The path of something in `folder` that is called `name` and is no file to be read."""
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
    """Bound by a short name: that of a socket has at most 107 bytes."""
    before = os.getcwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(before)
