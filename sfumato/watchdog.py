"""Forced exit of a process that does not stop soon after a signal.

Python runs signal handlers in the main thread, between two bytecodes, so one long call of a library, such as a
convolution of a large image, delays them. `signal.set_wakeup_fd` makes Python write the number of a signal to a file
descriptor immediately; a separate thread reads it there.
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
"""Seconds between the signal and the forced exit, for a regular exit."""
_SENTENCE = "sfumato: {} during a long operation; no file with the name of a result is incomplete.\n"
_SHOW_CURSOR = "\n\x1b[?25h"


class Watchdog:
    """Context manager that forces the process to exit `GRACE` seconds after a signal for which `ends` is true.

    The exit code is 128 plus the number of the signal. Files are written under a temporary name and renamed, so at most
    a temporary file is left, which the next run that writes to the folder removes. Only the main thread can enter it.

    Args:
        ends: whether a signal ends the process; called in the watchdog thread, for every signal that has a handler.
    """

    def __init__(self, ends: Callable[[int], bool]) -> None:
        self._ends = ends
        self._receiver, self._sender = socket.socketpair()
        self._sender.setblocking(False)
        self._thread = threading.Thread(target=self._listen, name="watchdog", daemon=True)
        self._before = -1

    def __enter__(self) -> "Watchdog":
        self._thread.start()
        self._before = signal.set_wakeup_fd(self._sender.fileno(), warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._before)
        self._sender.close()
        self._thread.join()
        self._receiver.close()

    def _listen(self) -> None:
        """Wait for signals, and for the deadline after one that ends the process; return when the sender is closed."""
        ending, deadline = 0, 0.0
        while select.select([self._receiver], [], [], max(0.0, deadline - time.monotonic()) if ending else None)[0]:
            numbers = self._receiver.recv(64)
            if not numbers:
                return
            for number in numbers:
                if self._ends(number) and not ending:
                    ending, deadline = number, time.monotonic() + GRACE
        _end(ending)


def _end(number: int) -> None:
    """Exit immediately. The message is omitted if writing it would block, as on a full pipe that nobody reads."""
    verb = "stopped" if number == signal.SIGINT else "terminated"
    text = (_SHOW_CURSOR if sys.stderr.isatty() else "") + _SENTENCE.format(verb)
    with suppress(OSError, ValueError):
        if select.select([], [2], [], 0)[1]:
            os.write(2, text.encode())
    os._exit(128 + number)
