"""On Ctrl-C or SIGTERM, stop a run after the current step, so that its last checkpoint is complete."""

import signal
import threading
import time
from contextlib import ExitStack
from types import FrameType

from sfumato.watchdog import Watchdog

AGAIN = 1.0
"""Seconds after which a Ctrl-C counts as a second one: `torchrun` repeats a Ctrl-C that its processes also received."""


class Stopped(KeyboardInterrupt):
    """Raised when a run has stopped because of the signal `number`, after its checkpoint was written."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number.name)
        self.number = number


class Interrupt:
    """Context in which SIGINT and SIGTERM only set `requested` and `number`; a second Ctrl-C interrupts at once.

    A Ctrl-C counts as the second one from `AGAIN` seconds after the first. If a long call of a library does not react
    to it, the process ends `watchdog.GRACE` seconds later; the previous checkpoint is complete.

    Python handles signals in the main thread; in other threads the context does nothing. The previous handlers are
    restored on exit.
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
        """Whether a signal ends the run at once; called by the watchdog, which receives signals before `_note`."""
        if self._first is None:
            self._first = time.monotonic()
            return False
        return _is_again(number, self._first)


def _is_again(number: int, since: float) -> bool:
    return number == signal.SIGINT and time.monotonic() - since > AGAIN
