"""Colours of one image in another: transfer of the mean and the covariance of the pixels (closed form).

The linear Monge-Kantorovich map between two normal distributions of colours (Pitie and Kokaram, CVMP 2007):

    x -> mu_r + A (x - mu),      A = S^(-1/2) (S^(1/2) S_r S^(1/2))^(1/2) S^(-1/2)

mu and S are the mean and the covariance of the image, mu_r and S_r those of the reference. Of all linear maps with
this result, it moves the colours least.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

_RANK = 1e-10
"""Variances below this share of the largest one count as 0: an image without colour stays without."""


def match_colours(
    pixels: Float[Tensor, "b 3 h w"], *references: Float[Tensor, "#b 3 h2 w2"], weights: Sequence[float] = (1.0,)
) -> Float[Tensor, "b 3 h w"]:
    """Give images the mean and the covariance of the colours of a reference, or their weighted means over several.

    Args:
        pixels: images in about [-1, 1].
        references: each is one image for all, or one for each, of any size, in the same range.
        weights: one per reference, at least 0, of any sum above 0.

    Returns:
        The images, float64, not clipped. Where the colours of an image vary in fewer than three dimensions, those of
        the result do too.
    """
    x, mean, covariance = _moments(pixels)
    _, means, covariances = zip(*map(_moments, references), strict=True)
    wanted_mean, wanted = (_weighted(each, weights) for each in (means, covariances))
    root, inverse = _power(covariance, 0.5), _power(covariance, -0.5)
    A = inverse @ _power(root @ wanted @ root, 0.5) @ inverse
    return (A @ (x - mean) + wanted_mean).reshape(pixels.shape)


def _moments(pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The pixels [b,3,n], their mean [b,3,1] and their covariance [b,3,3], float64 on the CPU."""
    x = pixels.detach().cpu().double().flatten(2)
    mean = x.mean(dim=2, keepdim=True)
    return x, mean, (x - mean) @ (x - mean).mT / x.shape[2]


def _weighted(values: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    total = sum(weights)
    return torch.stack([weight / total * value for value, weight in zip(values, weights, strict=True)]).sum(dim=0)


def _power(S: Float[Tensor, "b 3 3"], exponent: float) -> Float[Tensor, "b 3 3"]:
    """A power of symmetric positive semidefinite matrices; 0 where an eigenvalue is 0 (pseudo-inverse)."""
    values, vectors = torch.linalg.eigh(S)
    positive = values > _RANK * values.amax(dim=1, keepdim=True).clamp(min=torch.finfo(S.dtype).tiny)
    powers = torch.where(positive, values.clamp(min=torch.finfo(S.dtype).tiny) ** exponent, 0.0)
    return (vectors * powers[:, None]) @ vectors.mT
