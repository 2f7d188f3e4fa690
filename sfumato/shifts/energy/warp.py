"""Affine maps of objects. This module does not import torch; `maps` applies them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Warp:
    """An affine map of an object: scaling and rotation about its centroid, then a translation.

    Attributes:
        right: displacement as a fraction of the width; negative is to the left.
        down: displacement as a fraction of the height; negative is up.
        width: factor of the width, above 0.
        height: factor of the height, above 0.
        angle: rotation in degrees, clockwise.
    """

    right: float = 0.0
    down: float = 0.0
    width: float = 1.0
    height: float = 1.0
    angle: float = 0.0

    @property
    def area(self) -> float:
        """Factor of the area."""
        return self.width * self.height
