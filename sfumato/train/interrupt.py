"""Ctrl-C and SIGTERM ask a run to stop after the step it is in, so that its last checkpoint is whole."""

import signal
import threading
import time
from types import FrameType
from typing import Any


class Stopped(KeyboardInterrupt):
    """A run has stopped, with its checkpoint written, for the signal `number`."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number.name)
        self.number = number


class Interrupt:
    """While entered, SIGINT and SIGTERM only set `requested` and `number`; Ctrl-C again interrupts at once.

    Again means a second later or more: `torchrun` passes a Ctrl-C on that its processes have met already.
    Handlers belong to the main thread: entered in another one, it changes nothing. What handled the signals before
    does so again on exit.
    """

    def __init__(self) -> None:
        self.requested = False
        self.number = signal.SIGINT
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
            self.requested, self.number, self._since = True, signal.Signals(number), time.monotonic()
        elif number == signal.SIGINT and time.monotonic() - self._since > 1:
            raise KeyboardInterrupt
