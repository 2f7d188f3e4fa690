"""Progress on stderr: a bar on a terminal, otherwise a line every few seconds."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from sfumato.cli.report import say
from sfumato.printing import one_line

#: Seconds between two lines if stderr is not a terminal.
_EVERY = 10.0


class Show(Protocol):
    """Callback that shows progress."""

    def __call__(self, done: float, total: float | None, text: str) -> None:
        """Show that `done` of `total` (None: unknown) is done, with a short text."""


@contextmanager
def progress(wanted: bool = True) -> Iterator[Show]:
    """Context manager that yields a progress callback; with `wanted` False the callback shows nothing."""
    if not wanted:
        yield lambda done, total, text: None
    elif sys.stderr.isatty():
        yield from _bar()
    else:
        yield _Lines()


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
    """A line every few seconds; work that takes less time prints nothing."""

    def __init__(self) -> None:
        self.last = time.monotonic()

    def __call__(self, done: float, total: float | None, text: str) -> None:
        now = time.monotonic()
        if now - self.last >= _EVERY:
            self.last = now
            share = f"{100 * done / total:3.0f} %  " if total else ""
            say(f"{share}{text}", error=True)


def duration(seconds: float) -> str:
    """A duration such as 12 s, 3 min 20 s or 2 h 05 min."""
    total = max(0, round(seconds))
    if total < 60:
        return f"{total} s"
    if total < 3600:
        return f"{total // 60} min {total % 60:02d} s"
    return f"{total // 3600} h {total % 3600 // 60:02d} min"
