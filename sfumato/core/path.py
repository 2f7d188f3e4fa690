"""The order in which a run visits its noise levels: downwards, or back up and down again.

Step k starts at level k: level 0 is the noisiest, and level n of a run of n steps is x_0. A path is a sequence of
levels. Each move goes down to the next level (a step of the reverse process) or back up to an earlier, noisier one (the
latent is diffused again).
"""

from collections.abc import Sequence
from itertools import pairwise

from sfumato.errors import BadInput


def downwards(steps: int) -> list[int]:
    """The path that visits every level once, from x_T to x_0."""
    return list(range(steps + 1))


def repeat_first(steps: int, times: int) -> list[int]:
    """Run the first step `times` times, diffusing its result again in between, then every other step once.

    DiffuseIT (Kwon and Ye, arXiv 2209.15264) resamples its first step in this way.
    """
    return [0, 1] * (times - 1) + downwards(steps)


def resample(steps: int, jump: int, times: int) -> list[int]:
    """RePaint's path (Lugmayr et al., arXiv 2201.09865, appendix B), with every jump up as one move.

    At each of the levels steps - 1, steps - 1 - jump, ..., as long as they are at least `jump`, the path jumps up by
    `jump` levels, `times - 1` times, before it continues downwards.

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
    """Number of steps of the reverse process in a path: its moves down."""
    return sum(after > level for level, after in pairwise(path))


def check_path(path: Sequence[int], steps: int) -> None:
    """Check that a path leads from the first level to x_0 by single steps down and jumps up.

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
