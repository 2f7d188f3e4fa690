"""Names of LoRA and textual inversion files as a user gives them, checked without importing torch."""

import math
import os
import re
from pathlib import Path
from typing import Any, TypeAlias

from sfumato.errors import BadInput
from sfumato.files import printable

GivenLora: TypeAlias = str | os.PathLike[str] | tuple[str | os.PathLike[str], float]
"""A LoRA: a file, "FILE:SCALE" or (file, scale)."""
GivenInversion: TypeAlias = str | os.PathLike[str]
"""A textual inversion: a file or "FILE:WORD"."""

_SUFFIXED = re.compile(r"(.+\.safetensors):([^:/\\]*)", re.IGNORECASE)


def place_and_scale(given: Any) -> tuple[Path, float]:
    """The file of a LoRA and its scale, 1 by default.

    Raises:
        BadInput: there is no such file, it is not a .safetensors file, or the scale is not a finite number.
    """
    place, scale = given if isinstance(given, tuple) and len(given) == 2 else (given, 1.0)
    if isinstance(place, str) and place is given and (found := _SUFFIXED.fullmatch(place)):
        place, scale = found[1], found[2]
    if not isinstance(place, str | os.PathLike):
        raise BadInput(f"A LoRA must be a file, FILE:SCALE or (file, scale), not {given!r:.100}.")
    try:
        number = float(scale)
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(scale, bool) or not math.isfinite(number):
        raise BadInput(f"The scale of a LoRA must be a finite number, as in FILE:0.8, not {scale!r:.100}.")
    return _file(Path(place), "LoRA"), number


def place_and_word(given: Any) -> tuple[Path, str]:
    """The file of a textual inversion and its word, "" if the user names none.

    Raises:
        BadInput: there is no such file, or it is not a .safetensors file.
    """
    if not isinstance(given, str | os.PathLike):
        raise BadInput(f"A textual inversion must be a file or FILE:WORD, not {given!r:.100}.")
    found = _SUFFIXED.fullmatch(given) if isinstance(given, str) else None
    return _file(Path(found[1] if found else given), "textual inversion"), found[2] if found else ""


def _file(path: Path, what: str) -> Path:
    path = path.expanduser()
    if path == Path():
        raise BadInput(f"The name of the {what} is empty: give the path of a .safetensors file.")
    if path.suffix.lower() != ".safetensors":
        raise BadInput(f"{printable(path)} is not a .safetensors file: a {what} in another format can run code.")
    if not path.exists():
        raise BadInput(f"There is no {what} {printable(path)}: give the path of a .safetensors file.")
    return path
