"""Progress on stderr: a bar on a terminal, otherwise a line every few seconds."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from sfumato.cli.report import say
from sfumato.printing import one_line

#: Seconds between two lines if stderr is not a terminal.
_EVERY = 10.0
#: Seconds without a line after which the last one is printed again.
_SILENT = 10.0


class Show(Protocol):
    """Callback that shows progress."""

    def __call__(self, done: float, total: float | None, text: str) -> None:
        """Show the progress `done` of `total` (None if unknown) with a short text."""


@contextmanager
def progress(wanted: bool = True) -> Iterator[Show]:
    """Context manager that yields a progress callback; with `wanted` False the callback shows nothing."""
    if not wanted:
        yield lambda done, total, text: None
    elif sys.stderr.isatty():
        yield from _bar()
    else:
        with _Lines() as lines:
            yield lines


def _bar() -> Iterator[Show]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    description = TextColumn("{task.description}", markup=False)  # prompts may contain brackets
    with Progress(
        BarColumn(bar_width=30),
        TextColumn("{task.percentage:>3.0f} %"),
        description,
        console=Console(stderr=True),
        transient=True,
    ) as bars:
        bar = bars.add_task("", total=None)

        def show(done: float, total: float | None, text: str) -> None:
            bars.update(bar, completed=done, total=total, description=one_line(text))

        yield show


class _Lines:
    """Prints a line every few seconds, also while a step is running; prints nothing for work that takes less time."""

    def __init__(self) -> None:
        self.last = time.monotonic()
        self._line = ""
        self._printing = threading.Lock()
        self._ended = threading.Event()

    def __enter__(self) -> "_Lines":
        threading.Thread(target=self._repeat, name="progress", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def __call__(self, done: float, total: float | None, text: str) -> None:
        share = f"{100 * done / total:3.0f} %  " if total else ""
        self._line = f"{share}{text}"
        self._print(_EVERY)

    def _repeat(self) -> None:
        """Print the last line again during steps that take long."""
        while not self._ended.wait(max(1.0, self.last + _SILENT - time.monotonic())):
            self._print(_SILENT)

    def _print(self, after: float) -> None:
        """Print the line if none was printed for `after` seconds."""
        with self._printing:
            now = time.monotonic()
            if self._line and now - self.last >= after and not self._ended.is_set():
                self.last = now
                say(self._line, error=True)


def duration(seconds: float) -> str:
    """A duration such as 12 s, 3 min 20 s or 2 h 05 min."""
    total = max(0, round(seconds))
    if total < 60:
        return f"{total} s"
    if total < 3600:
        return f"{total // 60} min {total % 60:02d} s"
    return f"{total // 3600} h {total % 3600 // 60:02d} min"
