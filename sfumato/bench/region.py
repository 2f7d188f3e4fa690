"""The region in which two images differ."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

#: A pixel counts as changed if a channel differs by more grey levels than this; antialiasing differs by less.
THRESHOLD = 24
#: The changed region is dilated by the image's shorter side divided by this: by two pixels for 64.
GROWTH = 32


def changed_region(source: NDArray[np.uint8], target: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Mask bool [h,w] of two images uint8 [h,w,3]: |source - target| > THRESHOLD in a channel, dilated by a square."""
    difference = np.abs(source.astype(np.int16) - target.astype(np.int16)).max(axis=2)
    changed = torch.from_numpy(difference > THRESHOLD)[None, None].float()
    radius = round(min(source.shape[:2]) / GROWTH)
    return F.max_pool2d(changed, 2 * radius + 1, stride=1, padding=radius)[0, 0].bool().numpy()
