"""Printing: results on stdout as one JSON object or as text, and remarks on stderr."""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from sfumato.printing import one_line


def say(text: str, *, error: bool = False) -> None:
    """Print one line on stdout, or on stderr with `error`; all output of this package passes through this function.

    Control characters, for example from prompts and files, are escaped, including line breaks.
    """
    print(one_line(text), file=sys.stderr if error else sys.stdout, flush=error)


def print_json(value: Mapping[str, Any]) -> None:
    """Print one JSON object in ASCII, which every terminal can show; NaN and infinity become null."""
    text = json.dumps(_plain(value), indent=2, allow_nan=False).replace("\x7f", "\\u007f")  # DEL: not escaped by json
    for line in text.split("\n"):
        say(line)


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows of texts, in columns as wide as their widest text."""
    rows = [[one_line(text) for text in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    for row in rows:
        say("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def shown(value: Any) -> str:
    """A value as text: floats with four significant digits."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(shown(item) for item in value)
    return str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)
