"""Progress on stderr: a bar on a terminal, now and then a line in a log file."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from sfumato.cli.report import say
from sfumato.printing import one_line

#: Seconds between two lines where stderr is no terminal.
_EVERY = 10.0


class Show(Protocol):
    """Shows how far the work is."""

    def __call__(self, done: float, total: float | None, text: str) -> None:
        """`done` of `total` (None: not known), and a few words."""


@contextmanager
def progress(wanted: bool = True) -> Iterator[Show]:
    """Within, call what this gives as often as you like. `wanted` False shows nothing."""
    if not wanted:
        yield lambda done, total, text: None
    elif sys.stderr.isatty():
        yield from _bar()
    else:
        yield _Lines()


def _bar() -> Iterator[Show]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    said = TextColumn("{task.description}", markup=False)  # texts of users may hold brackets
    with Progress(
        BarColumn(bar_width=30),
        TextColumn("{task.percentage:>3.0f} %"),
        said,
        console=Console(stderr=True),
        transient=True,
    ) as bars:
        bar = bars.add_task("", total=None)

        def show(done: float, total: float | None, text: str) -> None:
            bars.update(bar, completed=done, total=total, description=one_line(text))

        yield show


class _Lines:
    """A line every few seconds, the first one after a while: short work stays silent."""

    def __init__(self) -> None:
        self.last = time.monotonic()

    def __call__(self, done: float, total: float | None, text: str) -> None:
        now = time.monotonic()
        if now - self.last >= _EVERY:
            self.last = now
            share = f"{100 * done / total:3.0f} %  " if total else ""
            say(f"{share}{text}", error=True)


def duration(seconds: float) -> str:
    """12 s, 3 min 20 s, 2 h 05 min."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
