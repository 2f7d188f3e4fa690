"""Colour transfer: give an image the mean and the covariance of the pixels of a reference, in closed form.

The linear Monge-Kantorovich map between two normal distributions of colours (Pitie and Kokaram, CVMP 2007):

    x -> mu_r + A (x - mu),      A = S^(-1/2) (S^(1/2) S_r S^(1/2))^(1/2) S^(-1/2)

mu and S are the mean and the covariance of the image, mu_r and S_r those of the reference. Of all linear maps that give
these moments, it has the smallest mean squared change of the colours. With pixel weights w, the moments are

    mu = sum_i w_i x_i / sum_i w_i,      S = sum_i w_i (x_i - mu) (x_i - mu)^T / sum_i w_i
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

_RANK = 1e-10
"""Variances below this fraction of the largest one count as 0, so that grey images stay grey."""


def match_colours(
    pixels: Float[Tensor, "b 3 h w"],
    *references: Float[Tensor, "#b 3 h2 w2"],
    weights: Sequence[float] = (1.0,),
    inside: Float[Tensor, "#b 1 h w"] | None = None,
    inside_references: Float[Tensor, "#b 1 h2 w2"] | None = None,
) -> Float[Tensor, "b 3 h w"]:
    """Give images the mean and the covariance of the colours of a reference, or their weighted means over several.

    All pixels are mapped. With `inside`, the moments of the result agree with the reference under the weights `inside`.

    Args:
        pixels: images in about [-1, 1].
        references: reference images in the same range and of any size; each has one row, or one row per image.
        weights: one weight per reference, at least 0, with a sum above 0; they need not sum to 1.
        inside: pixel weights w of the images, at least 0, with a sum above 0; None for equal weights.
        inside_references: pixel weights of the references, which must then all have the same size.

    Returns:
        The images, float64, not clipped. If the colours of an image vary in fewer than three dimensions, so do those of
        the result.
    """
    x, mean, covariance = _moments(pixels, inside)
    _, means, covariances = zip(*(_moments(each, inside_references) for each in references), strict=True)
    wanted_mean, wanted = (_weighted(each, weights) for each in (means, covariances))
    root, inverse = _power(covariance, 0.5), _power(covariance, -0.5)
    A = inverse @ _power(root @ wanted @ root, 0.5) @ inverse
    return (A @ (x - mean) + wanted_mean).reshape(pixels.shape)


def _moments(pixels: Tensor, inside: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """The pixels [b,3,n], their mean [b,3,1] and their covariance [b,3,3], float64 on the CPU."""
    x = pixels.detach().cpu().double().flatten(2)
    w = torch.ones_like(x[:1, :1]) if inside is None else inside.detach().cpu().double().flatten(2)
    w = w / w.sum(dim=2, keepdim=True)
    mean = (w * x).sum(dim=2, keepdim=True)
    return x, mean, (w * (x - mean)) @ (x - mean).mT


def _weighted(values: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    total = sum(weights)
    return torch.stack([weight / total * value for value, weight in zip(values, weights, strict=True)]).sum(dim=0)


def _power(S: Float[Tensor, "b 3 3"], exponent: float) -> Float[Tensor, "b 3 3"]:
    """A power of symmetric positive semidefinite matrices; 0 where an eigenvalue is 0 (pseudo-inverse)."""
    values, vectors = torch.linalg.eigh(S)
    positive = values > _RANK * values.amax(dim=1, keepdim=True).clamp(min=torch.finfo(S.dtype).tiny)
    powers = torch.where(positive, values.clamp(min=torch.finfo(S.dtype).tiny) ** exponent, 0.0)
    return (vectors * powers[:, None]) @ vectors.mT
