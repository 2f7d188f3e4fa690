"""Ctrl-C and SIGTERM ask a run to stop after the step it is in, so that its last checkpoint is whole."""

import signal
import threading
import time
from types import FrameType
from typing import Any


class Interrupt:
    """While entered, SIGINT and SIGTERM only set `requested`; Ctrl-C again, a second later, interrupts at once.

    (`torchrun` passes a Ctrl-C on that its processes have met already: the same one must not count twice.)
    Handlers belong to the main thread: entered in another one, it changes nothing. What handled the signals before
    does so again on exit.
    """

    def __init__(self) -> None:
        self.requested = False
        self._since = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if not self.requested:
            self.requested, self._since = True, time.monotonic()
        elif number == signal.SIGINT and time.monotonic() - self._since > 1:
            raise KeyboardInterrupt
