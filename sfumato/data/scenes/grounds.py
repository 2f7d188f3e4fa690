"""Background colours of scenes."""

import numpy as np
from numpy.typing import NDArray

#: Word in captions -> sRGB colour.
GROUNDS = {
    "red": (214, 48, 49),
    "orange": (243, 146, 55),
    "yellow": (250, 215, 80),
    "green": (76, 160, 84),
    "light blue": (150, 210, 240),
    "blue": (52, 98, 196),
    "purple": (126, 80, 170),
    "pink": (246, 170, 196),
    "brown": (125, 84, 58),
    "grey": (150, 152, 156),
    "black": (28, 28, 32),
}
WHITE = (255, 255, 255)

#: Euclidean distance in sRGB (0 to 441) below which a pixel has a low contrast to its background.
_LOST = 80.0
#: `lost_share` uses every third pixel in each direction.
_SAMPLED = 3


def lost_share(cutout: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Fraction of a cut-out's opaque pixels with a low contrast to each of the background colours `GROUNDS`.

    Args:
        cutout: uint8 [h,w,4], straight alpha.

    Returns:
        float64 [len(GROUNDS)] in [0,1].
    """
    cutout = cutout[::_SAMPLED, ::_SAMPLED]
    colours = cutout[..., :3][cutout[..., 3] > 127].astype(np.float64)
    palette = np.array(list(GROUNDS.values()), np.float64)
    if not len(colours):
        return np.zeros(len(GROUNDS))
    distance = np.linalg.norm(colours[:, None] - palette[None], axis=-1)
    return (distance < _LOST).mean(0)
