"""Notes of a run: sentences for the user about targets that an edit cannot reach, collected for the report."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_OPEN: ContextVar[tuple[dict[str, None], ...]] = ContextVar("notes", default=())


def note(text: str) -> None:
    """Add a sentence to the notes of all active `collecting_notes` blocks, unless they contain it."""
    for notes in _OPEN.get():
        notes.setdefault(text)


@contextmanager
def collecting_notes() -> Iterator[dict[str, None]]:
    """Context manager that collects the notes made within its block, as keys in the order of their first occurrence."""
    notes: dict[str, None] = {}
    token = _OPEN.set((*_OPEN.get(), notes))
    try:
        yield notes
    finally:
        _OPEN.reset(token)
