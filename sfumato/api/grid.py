"""The settings of a sweep. This module does not import torch."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from sfumato.errors import BadInput

MOST = 1000
"""Maximum number of settings in one sweep; more are rejected as a probable typing error."""

Point = dict[str, Any]


def grid_points(grid: Mapping[str, Sequence[Any]]) -> list[Point]:
    """Return all combinations of the values; the last name varies fastest.

    Raises:
        BadInput: a name has no list of values, no values or a repeated value, or there are more than `MOST`
            combinations.
    """
    if not isinstance(grid, Mapping):
        raise BadInput(f"The grid must be a dictionary of lists of values by name, not {grid!r}.")
    for name, values in grid.items():
        if isinstance(values, str) or not isinstance(values, Sequence):
            raise BadInput(f"The values of {name} in the grid must be a list, not {values!r}.")
        if not values:
            raise BadInput(f"Give at least one value for {name}.")
        for value in values:
            if list(values).count(value) > 1:
                raise BadInput(f"The grid has {name} = {value} more than once: give each value once.")
    points = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    if len(points) > MOST:
        raise BadInput(f"The grid has {len(points)} settings, and at most {MOST} are allowed: give fewer values.")
    return points
