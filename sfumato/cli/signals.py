"""SIGTERM: an orderly end instead of a sudden one."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(BaseException):
    """SIGTERM arrived. Not an Exception, so that nobody swallows it on the way up."""


@contextmanager
def terminating() -> Iterator[None]:
    """Within, SIGTERM raises `Terminated`, so that half-written files are removed on the way out."""

    def terminate(number: int, frame: FrameType | None) -> None:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():  # Python hears signals in the main thread only
        yield
        return
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
