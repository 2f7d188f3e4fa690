"""Feathering of masks, so that the border of an edit is not visible as a seam."""

import numpy as np
from numpy.typing import NDArray


def feathered(weights: NDArray[np.float32], reach: float) -> NDArray[np.float32]:
    """Let the weights of a mask rise from 0 at its border to their values at the distance `reach` inside the mask.

    Weights of 0 stay 0, so everything outside the mask stays unchanged. Borders of the mask at the border of the image
    are not feathered. `reach` is limited to half of the largest distance in the mask from its border, so that the
    middle of a narrow mask keeps its weights.

    Args:
        weights: weights of the mask, [h,w] in [0,1].
        reach: width of the transition in pixels, at least 0.

    Returns:
        The feathered weights, [h,w].
    """
    depth = _depth(weights > 0, limit=round(2 * reach) + 2)
    distance = min(reach, float(depth.max(initial=0)) / 2)
    if distance < 1:
        return weights
    share = np.clip((depth - 0.5) / distance, 0, 1)
    return np.minimum(weights, share * share * (3 - 2 * share))


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
