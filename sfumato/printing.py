"""Texts from prompts and files, as any terminal can show them."""

import re

#: Control characters (C0, DEL, C1), line and paragraph separators, marks and overrides of the direction of writing, and
#: halves of characters. Joiners and selectors, of which emoji are made, are none of them.
_UNPRINTABLE = re.compile("[\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def one_line(text: str) -> str:
    """The text on one line: what would act on a terminal, instead of being shown by it, is spelled as an escape."""
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)
