"""Ctrl-C and SIGTERM ask a run to stop after the step it is in, so that its last checkpoint is whole."""

import signal
import threading
import time
from contextlib import ExitStack
from types import FrameType

from sfumato.watchdog import Watchdog

AGAIN = 1.0
"""Seconds after which a Ctrl-C is a second one: `torchrun` passes one on that its processes have met already."""


class Stopped(KeyboardInterrupt):
    """A run has stopped, with its checkpoint written, for the signal `number`."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number.name)
        self.number = number


class Interrupt:
    """While entered, SIGINT and SIGTERM only set `requested` and `number`; Ctrl-C again interrupts at once.

    Again means `AGAIN` seconds later or more. Where that is not heard, in a long call of a library, the process ends
    `watchdog.GRACE` seconds after it; the checkpoint before is whole. Handlers belong to the main thread: entered in
    another one, it changes nothing. What handled the signals before does so again on exit.
    """

    def __init__(self) -> None:
        self.requested = False
        self.number = signal.SIGINT
        self._since = 0.0
        self._first: float | None = None
        self._restored = ExitStack()

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            self._restored.enter_context(Watchdog(self._ends))
            for number in (signal.SIGINT, signal.SIGTERM):
                self._restored.callback(signal.signal, number, signal.signal(number, self._note))
        return self

    def __exit__(self, *_: object) -> None:
        self._restored.close()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if not self.requested:
            self.requested, self.number, self._since = True, signal.Signals(number), time.monotonic()
        elif _is_again(number, self._since):
            raise KeyboardInterrupt

    def _ends(self, number: int) -> bool:
        """The same for the watchdog, which hears of signals before `_note` does."""
        if self._first is None:
            self._first = time.monotonic()
            return False
        return _is_again(number, self._first)


def _is_again(number: int, since: float) -> bool:
    return number == signal.SIGINT and time.monotonic() - since > AGAIN
