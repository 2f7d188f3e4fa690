"""Ends a process that has been asked to stop and does not.

Python runs the handlers of signals in the main thread, between two bytecodes: one long call of a library, such as a
convolution of a large picture, keeps them waiting. The number of a signal is written to a file descriptor at once
(`signal.set_wakeup_fd`), and a thread of its own reads it there.
"""

import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

GRACE = 1.5
"""Seconds between the signal and the end: time for an orderly one."""
_SENTENCE = "sfumato: {} in the middle of something long; nothing half written has the name of a result.\n"
_SHOW_CURSOR = "\n\x1b[?25h"


class Watchdog:
    """While entered, the process ends `GRACE` seconds after a signal that `ends` it, whatever it is doing.

    The exit code is 128 and the number of the signal. Files are written beside their place and renamed, so the end
    leaves at most a partial file, which the next run in the folder removes. Only the main thread can enter it.

    Args:
        ends: whether this signal ends the process; asked in another thread, for every signal that has a handler.
    """

    def __init__(self, ends: Callable[[int], bool]) -> None:
        self._ends = ends
        self._heard, self._told = socket.socketpair()
        self._told.setblocking(False)
        self._thread = threading.Thread(target=self._listen, name="watchdog", daemon=True)
        self._before = -1

    def __enter__(self) -> "Watchdog":
        self._thread.start()
        self._before = signal.set_wakeup_fd(self._told.fileno(), warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._before)
        self._told.close()
        self._thread.join()
        self._heard.close()

    def _listen(self) -> None:
        """Return when the other end is closed."""
        ending, deadline = 0, 0.0
        while select.select([self._heard], [], [], max(0.0, deadline - time.monotonic()) if ending else None)[0]:
            numbers = self._heard.recv(64)
            if not numbers:
                return
            for number in numbers:
                if self._ends(number) and not ending:
                    ending, deadline = number, time.monotonic() + GRACE
        _end(ending)


def _end(number: int) -> None:
    """End now. The sentence is left out where nobody reads it, which would keep the process waiting."""
    verb = "stopped" if number == signal.SIGINT else "terminated"
    text = (_SHOW_CURSOR if sys.stderr.isatty() else "") + _SENTENCE.format(verb)
    with suppress(OSError, ValueError):
        if select.select([], [2], [], 0)[1]:
            os.write(2, text.encode())
    os._exit(128 + number)
