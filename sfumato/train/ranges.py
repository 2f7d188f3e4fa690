"""Numeric settings of a recipe with their ranges, which are checked when the recipe is read."""

import dataclasses
from typing import Any

from sfumato.ranges import Range, check_number


def ranged(default: Any, **limits: float) -> Any:
    """A field of a recipe's table: a number, or a tuple of numbers that are all in the range.

    Args:
        default: value if the recipe does not contain the setting.
        limits: the limits of `sfumato.ranges.Range`: low, high, above, below.
    """
    return dataclasses.field(default=default, metadata={"range": Range(**limits)})


def check_ranges(table: Any, where: str) -> None:
    """Check the values of a dataclass against the ranges of its fields.

    Args:
        table: the instance.
        where: name of the table, for the message.

    Raises:
        BadInput: a value is out of range; the message names the first such setting and its range.
    """
    for field in dataclasses.fields(table):
        if "range" in field.metadata:
            value = getattr(table, field.name)
            for i, each in enumerate(value) if isinstance(value, tuple) else [(None, value)]:
                place = "" if i is None else f"[{i}]"
                check_number(f"{where}.{field.name}{place}", each, float, field.metadata["range"])
