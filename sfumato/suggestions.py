"""Suggestions in error messages about unknown names."""

from collections.abc import Iterable
from difflib import get_close_matches

_MOST_NAMED = 20


def suggestion(name: str, known: Iterable[str]) -> str:
    """End of an error message: "; did you mean 'skip'?" if a known name is similar, else "; choose from ..." or ".".

    Args:
        name: the unknown name.
        known: the known names; they are listed if there are at most 20.
    """
    choices = list(known)
    close = get_close_matches(name, choices, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; choose from {', '.join(choices)}." if len(choices) <= _MOST_NAMED else "."
