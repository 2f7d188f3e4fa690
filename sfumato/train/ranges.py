"""The ranges of a recipe's numbers stand with the settings, and are checked when the recipe is read."""

import dataclasses
import math
from typing import Any

from sfumato.errors import BadInput


def ranged(
    default: Any,
    *,
    low: float | None = None,
    above: float | None = None,
    high: float | None = None,
    below: float | None = None,
) -> Any:
    """A field of a recipe's table: a number, or a tuple of numbers that are all in the range; all must be finite.

    Args:
        default: its value when the recipe does not say otherwise.
        low: smallest allowed value.
        above: the value must be larger than this.
        high: largest allowed value.
        below: the value must be smaller than this.
    """
    return dataclasses.field(default=default, metadata={"low": low, "above": above, "high": high, "below": below})


def check_ranges(table: Any, where: str) -> None:
    """Refuse values of a dataclass that are out of the ranges of its fields.

    Args:
        table: the instance.
        where: what it is called, for the sentence.

    Raises:
        BadInput: names the first of them, and the range.
    """
    for field in dataclasses.fields(table):
        value = getattr(table, field.name)
        if not field.metadata:
            continue
        for i, each in enumerate(value) if isinstance(value, tuple) else [(None, value)]:
            if not _inside(each, **field.metadata):
                place = "" if i is None else f"[{i}]"
                number = "" if math.isfinite(each) else "finite and "
                raise BadInput(f"{where}.{field.name}{place} must be {number}{_words(**field.metadata)}, not {each}.")


def _inside(value: float, low: float | None, above: float | None, high: float | None, below: float | None) -> bool:
    return (
        math.isfinite(value)
        and (low is None or value >= low)
        and (above is None or value > above)
        and (high is None or value <= high)
        and (below is None or value < below)
    )


def _words(**limits: float | None) -> str:
    """Such as "at least 0 and below 1"."""
    names = {"low": "at least", "above": "above", "high": "at most", "below": "below"}
    return " and ".join(f"{names[name]} {limit:g}" for name, limit in limits.items() if limit is not None)
