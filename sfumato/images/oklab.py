"""Conversion between sRGB and Oklab (Bjoern Ottosson, "A perceptual color space for image processing", 2020).

L is the lightness, 0 for black and 1 for white; (a, b) is the colour, with the chroma as its length and the hue as its
angle. Greys have a = b = 0.
"""

import torch
from jaxtyping import Float
from torch import Tensor

LMS = ((0.4122214708, 0.5363325363, 0.0514459929), (0.2119034982, 0.6806995451, 0.1073969566),
       (0.0883024619, 0.2817188376, 0.6299787005))  # fmt: skip
"""Linear sRGB to the responses of the cones."""
LAB = ((0.2104542553, 0.7936177850, -0.0040720468), (1.9779984951, -2.4285922050, 0.4505937099),
       (0.0259040371, 0.7827717662, -0.8086757660))  # fmt: skip
"""Cube roots of the responses to L, a, b."""


def to_oklab(pixels: Float[Tensor, "3 ..."]) -> Float[Tensor, "3 ..."]:
    """Oklab of sRGB in [-1, 1]."""
    v = (pixels + 1) / 2
    linear = torch.where(v <= 0.04045, v / 12.92, ((v.clamp(min=0) + 0.055) / 1.055) ** 2.4)
    return _times(LAB, _times(LMS, linear).clamp(min=0) ** (1 / 3))


def from_oklab(lab: Float[Tensor, "3 ..."]) -> Float[Tensor, "3 ..."]:
    """sRGB in [-1, 1] of Oklab; colours that sRGB does not contain are clipped per channel."""
    linear = _times(LMS, _times(LAB, lab, inverse=True) ** 3, inverse=True).clamp(0, 1)
    v = torch.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear.clamp(min=1e-8) ** (1 / 2.4) - 0.055)
    return 2 * v - 1


def _times(rows: tuple[tuple[float, ...], ...], x: Tensor, *, inverse: bool = False) -> Tensor:
    """A 3 x 3 matrix, or its inverse, times every column."""
    matrix = torch.tensor(rows, dtype=torch.float64)
    return torch.tensordot((matrix.inverse() if inverse else matrix).to(x), x, dims=1)
