"""Commands in forked processes: no module is imported again, and signals are real."""

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sfumato.cli
from sfumato.cli import progress

PATIENCE = 120.0


def nothing() -> None:
    """Default of `Forked(before=...)`: change nothing in the forked process."""


@dataclass
class Ended:
    """How a command ended: exit code, seconds since the first signal, and the lines of stderr."""

    code: int
    seconds: float
    lines: list[str]


class Forked:
    """`sfumato WORDS` in a forked process and a given folder; every step prints a line of progress."""

    def __init__(self, words: tuple[Any, ...], folder: Path, before: Callable[[], None] = nothing) -> None:
        self.errors = folder / "stderr.txt"
        self.errors.write_text("")
        self.pid = os.fork()
        if self.pid == 0:
            _run([str(word) for word in words], folder, self.errors, before)

    def wait_for(self, there: Callable[[], bool]) -> None:
        """Wait until `there()` is true; fails if the command ends first."""
        until = time.monotonic() + PATIENCE
        while not there():
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            assert not ended, f"ended with {os.waitstatus_to_exitcode(status)}: {self.errors.read_text()}"
            if time.monotonic() > until:
                self.end(signal.SIGKILL)
                raise AssertionError(f"still waiting: {self.errors.read_text()}")
            time.sleep(0.005)

    def wait_for_line(self, text: str) -> None:
        """Wait until stderr contains the text."""
        self.wait_for(lambda: text in self.errors.read_text())

    def end(self, *numbers: signal.Signals, apart: float = 0.03, patience: float = PATIENCE) -> Ended:
        """Send the signals, `apart` seconds apart, and wait for the end of the process."""
        began = time.monotonic()
        for n, number in enumerate(numbers):
            time.sleep(apart if n else 0)
            os.kill(self.pid, number)
        while not (ended := os.waitpid(self.pid, os.WNOHANG))[0]:
            if time.monotonic() - began > patience:
                os.kill(self.pid, signal.SIGKILL)
            time.sleep(0.005)
        seconds = time.monotonic() - began
        return Ended(os.waitstatus_to_exitcode(ended[1]), seconds, self.errors.read_text().splitlines())


def _run(words: list[str], folder: Path, errors: Path, before: Callable[[], None]) -> None:
    """Run the command in the forked process."""
    code = 99
    try:
        os.chdir(folder)
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - until the process ends
        sys.stderr = open(errors, "w", buffering=1)  # noqa: SIM115 - until the process ends
        os.dup2(sys.stderr.fileno(), 2)
        for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
            signal.signal(number, handler)
        progress._EVERY = 0.0
        sys.argv = ["sfumato", *words]
        before()
        code = sfumato.cli.main()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)
