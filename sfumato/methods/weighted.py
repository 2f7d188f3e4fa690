"""Options that name several things with weights: "a.png=1,b.png=0.5"."""

import math

from sfumato.errors import BadInput


def parse_weighted(name: str, text: str) -> dict[str, float]:
    """Parse things with weights: "a.png" -> {"a.png": 1}, "a.png=2,b.png=0.5" -> {"a.png": 2, "b.png": 0.5}.

    Args:
        name: of the option, for the message.
        text: its value; "" for nothing.

    Raises:
        BadInput: the text has another form, something occurs twice, or the weights are negative or sum to 0.
    """
    weights: dict[str, float] = {}
    for part in text.split(",") if text.strip() else []:
        thing, _, number = part.rpartition("=") if "=" in part else (part, "", "1")
        try:
            weight = float(number)
        except ValueError:
            weight = math.nan
        if not thing.strip() or thing.strip() in weights or not 0 <= weight < math.inf:
            raise BadInput(
                f'{name} must be one, or several different ones with weights of at least 0 like "a.png=2,b.png=1", not '
                f'"{text[:80]}".'
            )
        weights[thing.strip()] = weight
    if weights and not sum(weights.values()):
        raise BadInput(f"The weights of {name} are all 0: give one of them a larger weight.")
    return weights
