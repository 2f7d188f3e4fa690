"""Ranges of numbers: of the options of methods, of the settings of recipes and of the flags of the command line."""

import math
from dataclasses import dataclass
from typing import Any

from sfumato.errors import BadInput


@dataclass(frozen=True)
class Range:
    """The finite numbers within some limits; None is no limit.

    Attributes:
        low: smallest number of the range.
        high: largest number of the range.
        above: the numbers are larger than this.
        below: the numbers are smaller than this.
    """

    low: float | None = None
    high: float | None = None
    above: float | None = None
    below: float | None = None

    def __contains__(self, value: float) -> bool:
        # Compared and not converted: an integer may be larger than any float.
        return (
            abs(value) < math.inf
            and (self.low is None or value >= self.low)
            and (self.high is None or value <= self.high)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        """Such as "between 1 and 1000", "at least 0", "above 0 and at most 1"; "any number" without limits."""
        if self.low is not None and self.high is not None:
            return f"between {self.low:g} and {self.high:g}"
        limits = {"at least": self.low, "above": self.above, "at most": self.high, "below": self.below}
        return " and ".join(f"{word} {limit:g}" for word, limit in limits.items() if limit is not None) or "any number"


def check_number(name: str, value: Any, kind: type, within: Range) -> None:
    """Refuse a value that is not a number of the kind, or out of range.

    Args:
        name: of the option, for the message.
        value: what the caller gave.
        kind: int, or float, which takes integers too.
        within: the allowed range.

    Raises:
        BadInput: names the option and its range.
    """
    numbers = int if kind is int else (int, float)
    if isinstance(value, bool) or not isinstance(value, numbers):
        what = "an integer" if kind is int else "a number"
        raise BadInput(f"{name} must be {what} ({within}), not {value!r}.")
    if value not in within:
        raise BadInput(f"{name} must be {within}{'' if abs(value) < math.inf else ' and finite'}, not {value}.")
