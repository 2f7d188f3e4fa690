"""Escaping of text from prompts and files, so that any terminal can print it."""

import re

#: Control characters (C0, DEL, C1), line and paragraph separators, bidirectional marks and overrides, and lone
#: surrogates. Zero-width joiners and variation selectors are not included: emoji need them.
_UNPRINTABLE = re.compile("[\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def one_line(text: str) -> str:
    """The text on one line, with escapes in place of the characters that control a terminal."""
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)
