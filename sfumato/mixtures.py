"""Mixtures of directions as text: "smile=1,3=-0.5". This module does not import torch."""

from sfumato.errors import BadInput

WEIGHTS = (1e-3, 1e3)
"""Smallest and largest absolute weight in a mixture; only the ratios of the weights matter."""


def is_number(name: str) -> bool:
    """Whether a name is interpreted as a number: at most 9 digits, as `int` raises an error for very long strings."""
    return name.isdecimal() and len(name) < 10


def parse_weights(text: str) -> dict[str, float]:
    """Parse a direction or a weighted mixture: "smile" -> {"smile": 1}, "smile=1,3=-0.5" -> {"smile": 1, "3": -0.5}.

    Raises:
        BadInput: the text has another form, a name occurs twice, or a weight is out of range.
    """
    weights: dict[str, float] = {}
    for part in text.split(","):
        name, _, number = part.rpartition("=") if "=" in part else (part, "", "1")
        name = name.strip()
        try:
            weight = float(number)
        except ValueError:
            name = ""
        if not name or name in weights:
            raise BadInput(
                f'direction must be a name or a number, or several with weights like "1=1,3=-0.5", not "{text}".'
            )
        if not WEIGHTS[0] <= abs(weight) <= WEIGHTS[1]:
            low, high = WEIGHTS
            raise BadInput(
                f'The absolute weight of direction "{name}" must be between {low:g} and {high:g}, not {weight:g}.'
            )
        weights[name] = weight
    return weights
