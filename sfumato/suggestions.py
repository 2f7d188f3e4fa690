"""The end of a message about an unknown name: the known name that was probably meant."""

from collections.abc import Iterable
from difflib import get_close_matches

_MOST_NAMED = 20


def suggestion(name: str, known: Iterable[str]) -> str:
    """Such as "; did you mean 'skip'?" where a known name is close, else "; choose from skip, steps." or ".".

    Args:
        name: what the user wrote.
        known: the names that exist; they are listed if there are at most 20.
    """
    choices = list(known)
    close = get_close_matches(name, choices, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; choose from {', '.join(choices)}." if len(choices) <= _MOST_NAMED else "."
