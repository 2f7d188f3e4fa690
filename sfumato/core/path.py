"""The order in which a run visits its noise levels, including resampling, and fractions of a run as indices of steps.

Step k starts at level k: level 0 is the noisiest, and level n of a run of n steps is x_0. A path is a sequence of
levels. Between consecutive levels, the run either makes one step of the reverse process, to the next level, or returns
to an earlier, noisier level by adding noise to the latent.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

from sfumato.errors import BadInput


def first_at(fraction: float | int, count: int) -> int:
    """Return the smallest index i of `count` steps or timesteps with i >= fraction * count.

    Floating-point errors of the product are removed: 0.55 * 100 gives 55, although it is 55.00000000000001 in float64.

    Args:
        fraction: fraction of the run, 0 to 1.
        count: number of steps of the run, or of training timesteps.
    """
    product = fraction * count
    nearest = round(product)
    return nearest if math.isclose(product, nearest, rel_tol=1e-9) else math.ceil(product)


def downwards(steps: int) -> list[int]:
    """Return the path that visits every level once, from x_T to x_0."""
    return list(range(steps + 1))


def repeat_first(steps: int, times: int) -> list[int]:
    """Return the path that runs the first step `times` times, adding noise in between, and every other step once.

    DiffuseIT (Kwon and Ye, arXiv 2209.15264) resamples its first step in this way.
    """
    return [0, 1] * (times - 1) + downwards(steps)


def resample(steps: int, jump: int, times: int) -> list[int]:
    """Return RePaint's path (Lugmayr et al., arXiv 2201.09865, appendix B), with every jump as a single transition.

    The path returns by `jump` levels, `times - 1` times, from each of the levels steps - 1, steps - 1 - jump, ... that
    are at least `jump`, before it continues towards x_0.

    Args:
        steps: number of steps of the run.
        jump: number of levels of a jump, RePaint's j.
        times: how often each section of `jump` steps is run, RePaint's r; 1 is `downwards`.
    """
    left = dict.fromkeys(range(steps - 1, jump - 1, -jump), times - 1)
    path = [0]
    while path[-1] < steps:
        level = path[-1]
        if left.get(level, 0) > 0:
            left[level] -= 1
            path.append(level - jump)
        path.append(path[-1] + 1)
    return path


def count_steps(path: Sequence[int]) -> int:
    """Return the number of steps of the reverse process in a path, i.e. of transitions to a less noisy level."""
    return sum(after > level for level, after in pairwise(path))


def check_path(path: Sequence[int], steps: int) -> None:
    """Check that a path leads from level 0 to x_0 by single steps to the next level and jumps to earlier levels.

    Raises:
        BadInput: the path is invalid; the message names the invalid move.
    """
    if not path or path[0] != 0 or path[-1] != steps:
        raise BadInput(f"A path must lead from level 0 to level {steps}, which is x_0.")
    for level, after in pairwise(path):
        if not 0 <= after < level and (after != level + 1 or after > steps):
            raise BadInput(
                f"A path must move to the next level or back to an earlier one, not from level {level} to {after}."
            )
