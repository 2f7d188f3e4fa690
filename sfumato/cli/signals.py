"""Ctrl-C and SIGTERM: an orderly end, and an end in any case."""

import atexit
import signal
import threading
from contextlib import ExitStack
from types import FrameType

from sfumato.watchdog import Watchdog


class Terminated(BaseException):
    """SIGTERM arrived. Not an Exception, so that nobody swallows it on the way up."""


class Ending:
    """While entered, the first SIGINT or SIGTERM raises KeyboardInterrupt or `Terminated`, and later ones do nothing.

    So half-written files are removed on the way out, and nothing interrupts that. `watchdog.GRACE` seconds later the
    process ends whatever it is doing. A signal that was ignored before stays ignored, as in a shell's background jobs.
    Python hears signals in the main thread only: entered in another one, it changes nothing.

    Args:
        of_process: nothing comes after it but the end of the process: what it does to signals is not taken back.

    Attributes:
        begun: the end has begun; set it where a command ends for another reason, and signals do nothing more.
        raised: what the first signal raised, or None. A library that was interrupted may have raised another error in
            its place.
    """

    def __init__(self, of_process: bool = False) -> None:
        self.begun = False
        self.raised: BaseException | None = None
        self._of_process = of_process
        self._heard: set[int] = set()
        self._restored = ExitStack()

    def __enter__(self) -> "Ending":
        if threading.current_thread() is threading.main_thread():
            self._restored.enter_context(Watchdog(self._heard.__contains__))
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._heard.add(number)
                    self._restored.callback(signal.signal, number, signal.signal(number, self._raise))
                    if self._of_process:  # Python takes the handlers away before it clears up
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
