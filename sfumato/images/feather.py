"""Feathering of masks, so that the border of an edit is not visible as a seam."""

import numpy as np
from numpy.typing import NDArray


def feathered(weights: NDArray[np.float32], reach: float) -> NDArray[np.float32]:
    """Let the weights of a mask rise from 0 at its border to their values at the distance `reach` inside the mask.

    Weights of 0 stay 0, so everything outside the mask stays unchanged. Borders of the mask at the border of the image
    are not feathered. In every connected part of the mask, `reach` is limited to half of the largest distance from its
    border, so that the middle of a narrow part keeps its weights.

    Args:
        weights: weights of the mask, [h,w] in [0,1].
        reach: width of the transition in pixels, at least 0.

    Returns:
        The feathered weights, [h,w].
    """
    inside = weights > 0
    depth = _depth(inside, limit=round(2 * reach) + 2)
    distance = np.minimum(np.float32(reach), _largest_in_part(inside, depth) / 2)
    wide = distance >= 1
    share = np.clip((depth[wide] - 0.5) / distance[wide], 0, 1)
    found = weights.copy()
    found[wide] = np.minimum(weights[wide], share * share * (3 - 2 * share))
    return found


def _depth(inside: NDArray[np.bool_], limit: int) -> NDArray[np.float32]:
    """Distance |dx| + |dy| in pixels to the nearest pixel outside the mask, at most `limit`; two passes per axis."""
    depth = np.where(inside, np.float32(limit), np.float32(0))
    for across in (depth, depth.T):
        lines = np.ascontiguousarray(across)
        for n in range(1, len(lines)):
            np.minimum(lines[n], lines[n - 1] + 1, out=lines[n])
        for n in range(len(lines) - 2, -1, -1):
            np.minimum(lines[n], lines[n + 1] + 1, out=lines[n])
        across[...] = lines
    return depth


def _largest_in_part(inside: NDArray[np.bool_], values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The largest of the non-negative `values` in the connected part (4 neighbours) of every pixel; 0 outside the mask.

    Pixels in a row that follow each other form a run. Runs in consecutive rows that touch are merged.
    """
    run = np.cumsum(_starts(inside), dtype=np.int32).reshape(inside.shape) * inside  # 0 outside
    touching = _starts(inside[1:] & inside[:-1])
    one, other = run[1:][touching], run[:-1][touching]
    part = np.arange(run.max(initial=0) + 1)
    while (differ := part[one] != part[other]).any():
        one, other = one[differ], other[differ]
        pair = part[one], part[other]
        np.minimum.at(part, np.maximum(*pair), np.minimum(*pair))
        while ((lower := part[part]) != part).any():
            part = lower
    largest: NDArray[np.float32] = np.zeros(len(part), np.float32)
    np.maximum.at(largest, part[run[inside]], values[inside])
    return largest[part[run]]


def _starts(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The pixels in a mask whose left neighbour is not in it."""
    starts = inside.copy()
    starts[:, 1:] &= ~inside[:, :-1]
    return starts
