"""Ranges of numbers, for method options, recipe settings and command line flags."""

import math
from dataclasses import dataclass
from typing import Any

from sfumato.errors import BadInput


@dataclass(frozen=True)
class Range:
    """A range of finite numbers; limits of None do not apply.

    Attributes:
        low: inclusive lower limit.
        high: inclusive upper limit.
        above: exclusive lower limit.
        below: exclusive upper limit.
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
        """Text such as "between 1 and 1000", "at least 0", "above 0 and at most 1"; "any number" without limits."""
        if self.low is not None and self.high is not None:
            return f"between {self.low:g} and {self.high:g}"
        limits = {"at least": self.low, "above": self.above, "at most": self.high, "below": self.below}
        return " and ".join(f"{word} {limit:g}" for word, limit in limits.items() if limit is not None) or "any number"


def check_number(name: str, value: Any, kind: type, within: Range) -> None:
    """Check the type and the range of a number.

    Args:
        name: name of the option, for the message.
        value: the value to check.
        kind: int, or float, which also accepts integers.
        within: the allowed range.

    Raises:
        BadInput: the value has another type or is out of range; the message contains the name and the range.
    """
    numbers = int if kind is int else (int, float)
    if isinstance(value, bool) or not isinstance(value, numbers):
        what = "an integer" if kind is int else "a number"
        raise BadInput(f"{name} must be {what} ({within}), not {value!r}.")
    if value not in within:
        raise BadInput(f"{name} must be {within}{'' if abs(value) < math.inf else ' and finite'}, not {value}.")
