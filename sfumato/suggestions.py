"""Suggestions in error messages about unknown names."""

from collections.abc import Iterable
from difflib import get_close_matches

_MOST_NAMED = 20


def suggestion(name: str, known: Iterable[str]) -> str:
    """End of an error message: "; did you mean 'skip'?" if a known name is similar, else "; choose from ..." or ".".

    Args:
        name: the unknown name. The dashes of flags are not compared, because short flags would be similar by them.
        known: the known names; they are listed if there are at most 20.
    """
    choices = list(known)
    bare = {each.lstrip("-"): each for each in choices}
    close = get_close_matches(name.lstrip("-"), bare, n=1)
    if close:
        return f"; did you mean {bare[close[0]]!r}?"
    return f"; choose from {', '.join(choices)}." if len(choices) <= _MOST_NAMED else "."
