"""SIGTERM and Ctrl-C: an orderly end instead of a sudden one."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Terminated(BaseException):
    """SIGTERM arrived. Not an Exception, so that nobody swallows it on the way up."""


@contextmanager
def terminating() -> Iterator[None]:
    """Within, SIGTERM raises `Terminated`, so that half-written files are removed on the way out."""

    def terminate(number: int, frame: FrameType | None) -> None:
        raise Terminated

    with _handling({signal.SIGTERM: terminate}):
        yield


class StopRequest:
    """Whether somebody asked for the end, and by which signal; 0 until then."""

    signal: int = 0

    def __bool__(self) -> bool:
        return self.signal != 0


@contextmanager
def stop_between_steps() -> Iterator[StopRequest]:
    """Within, the first Ctrl-C or SIGTERM only notes the wish, so that the step at hand ends whole; a second one
    stops at once."""
    request = StopRequest()

    def note(number: int, frame: FrameType | None) -> None:
        if request:
            raise KeyboardInterrupt if request.signal == signal.SIGINT else Terminated
        request.signal = number

    with _handling({signal.SIGINT: note, signal.SIGTERM: note}):
        yield request


@contextmanager
def _handling(handlers: dict[signal.Signals, Callable[[int, FrameType | None], Any]]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # Python hears signals in the main thread only
        yield
        return
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
