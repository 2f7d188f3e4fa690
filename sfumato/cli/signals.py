"""Handling of Ctrl-C and SIGTERM: a regular exit with cleanup, or a forced exit if that takes too long."""

import atexit
import signal
import threading
from contextlib import ExitStack
from types import FrameType

from sfumato.watchdog import Watchdog


class Terminated(BaseException):
    """SIGTERM was received. Not an Exception, so that `except Exception` does not catch it."""


class Ending:
    """Context manager: the first SIGINT or SIGTERM raises KeyboardInterrupt or `Terminated`, later ones are ignored.

    Temporary files are removed while the exception propagates; further signals do not interrupt this. The process ends
    after `watchdog.GRACE` seconds in any case. Signals that were ignored before remain ignored, as in background jobs
    of a shell. Python handles signals in the main thread only, so this context manager has no effect in other threads.

    Args:
        of_process: whether the process ends with the context; the signal handlers are then not restored.

    Attributes:
        begun: whether the command is ending. Set it if the command ends for another reason; signals are then ignored.
        raised: the exception that the first signal raised, or None. The interrupted library may have replaced it by
            another exception.
    """

    def __init__(self, of_process: bool = False) -> None:
        self.begun = False
        self.raised: BaseException | None = None
        self._of_process = of_process
        self._handled: set[int] = set()
        self._restored = ExitStack()

    def __enter__(self) -> "Ending":
        if threading.current_thread() is threading.main_thread():
            self._restored.enter_context(Watchdog(self._handled.__contains__))
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._handled.add(number)
                    self._restored.callback(signal.signal, number, signal.signal(number, self._raise))
                    if self._of_process:  # Python removes the handlers before its cleanup
                        atexit.register(signal.signal, number, signal.SIG_IGN)
        return self

    def __exit__(self, *_: object) -> None:
        self.begun = True
        if not self._of_process:
            self._restored.close()

    def _raise(self, number: int, frame: FrameType | None) -> None:
        if self.begun:
            return
        self.begun = True
        self.raised = KeyboardInterrupt() if number == signal.SIGINT else Terminated()
        raise self.raised
