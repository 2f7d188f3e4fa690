"""Soft borders inside a mask, so that an edit continues the image without a seam."""

import numpy as np
from numpy.typing import NDArray


def feathered(weights: NDArray[np.float32], reach: float) -> NDArray[np.float32]:
    """The weights of a mask, rising from 0 at its border to those given at a distance of `reach` inside.

    Weights of 0 stay 0, so that everything outside the mask stays unchanged. Where the mask meets the border of the
    image it is not softened. In a mask that is narrow everywhere the distance is at most half of its largest depth, so
    that its middle keeps its weights.

    Args:
        weights: [h,w] in [0,1].
        reach: in pixels, at least 0.
    """
    depth = _depth(weights > 0, limit=round(2 * reach) + 2)
    distance = min(reach, float(depth.max(initial=0)) / 2)
    if distance < 1:
        return weights
    share = np.clip((depth - 0.5) / distance, 0, 1)
    return np.minimum(weights, share * share * (3 - 2 * share))


def _depth(inside: NDArray[np.bool_], limit: int) -> NDArray[np.float32]:
    """Distance |dx| + |dy| in pixels to the nearest pixel that is not inside, at most `limit`; two passes per axis."""
    depth = np.where(inside, np.float32(limit), np.float32(0))
    for across in (depth, depth.T):
        lines = np.ascontiguousarray(across)
        for n in range(1, len(lines)):
            np.minimum(lines[n], lines[n - 1] + 1, out=lines[n])
        for n in range(len(lines) - 2, -1, -1):
            np.minimum(lines[n], lines[n + 1] + 1, out=lines[n])
        across[...] = lines
    return depth
