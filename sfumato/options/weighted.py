"""Parsing of options that contain several items with weights: "a.png=1,b.png=0.5"."""

import csv
import io
import math
from collections.abc import Mapping, Sequence

from sfumato.errors import BadInput


def parse_weighted(name: str, text: str) -> dict[str, float]:
    """Parse items with weights: "a.png" -> {"a.png": 1}, "a.png=2,b.png=0.5" -> {"a.png": 2, "b.png": 0.5}.

    Args:
        name: name of the option in error messages.
        text: value of the option; "" for no items. Items that contain a comma are quoted as in CSV:
            '"a,b.png=2",c.png'.

    Raises:
        BadInput: as `read_weighted`.
    """
    try:
        return read_weighted(name, next(csv.reader([text], skipinitialspace=True)) if text.strip() else [])
    except csv.Error:
        raise _wrong(name, text) from None


def read_weighted(name: str, parts: Sequence[str]) -> dict[str, float]:
    """Parse a list of items with weights: ["a,b.png", "c.png=0.5"] -> {"a,b.png": 1, "c.png": 0.5}.

    Args:
        name: name of the option in error messages.
        parts: the items, each with or without a weight.

    Raises:
        BadInput: an item is empty or occurs twice, a weight is negative or infinite, or the weights sum to 0.
    """
    weights: dict[str, float] = {}
    for part in parts:
        thing, weight = _read(part.strip())
        if not thing or thing in weights or not 0 <= weight < math.inf:
            raise _wrong(name, part)
        weights[thing] = weight
    if weights and not sum(weights.values()):
        raise BadInput(f"The weights of {name} are all 0: give one of them a larger weight.")
    return weights


def weighted_text(weights: Mapping[str, float]) -> str:
    """Format weights as text for `parse_weighted`. Raises BadInput for a weight that is not a number."""
    for thing, weight in weights.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float):
            raise BadInput(f"The weight of {thing} must be a number, not {weight!r}.")
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow([f"{thing}={float(weight)}" for thing, weight in weights.items()])
    return text.getvalue()


def _read(part: str) -> tuple[str, float]:
    """An item and its weight; text after the last "=" that is not a number is part of the item."""
    thing, equals, number = part.rpartition("=")
    if not equals:
        return part, 1.0
    try:
        return thing.strip(), float(number)
    except ValueError:
        return part, 1.0


def _wrong(name: str, given: str) -> BadInput:
    return BadInput(
        f'{name} must be one, or several different ones with weights of at least 0 like "a.png=2,b.png=1", not '
        f'"{given[:80]}".'
    )
