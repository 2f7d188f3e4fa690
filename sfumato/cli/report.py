"""What is printed: results on stdout, one JSON object or lines for people, and remarks on stderr."""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from sfumato.printing import one_line


def say(text: str, *, error: bool = False) -> None:
    """Print one line, on stderr where `error`; every text of this package is printed here.

    Control characters, such as those of prompts and files, are shown as escapes, line breaks too.
    """
    print(one_line(text), file=sys.stderr if error else sys.stdout, flush=error)


def print_json(value: Mapping[str, Any]) -> None:
    """One JSON object in ASCII, which every terminal and every file name survives; NaN and infinity become null."""
    text = json.dumps(_plain(value), indent=2, allow_nan=False).replace("\x7f", "\\u007f")  # DEL, which JSON leaves
    for line in text.split("\n"):
        say(line)


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Rows of texts, in columns as wide as their widest text."""
    rows = [[one_line(text) for text in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    for row in rows:
        say("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def shown(value: Any) -> str:
    """A number as people read it: four digits, no more."""
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
