"""Fréchet distance (FID) between two sets of features, each modelled as a Gaussian (Heusel et al. 2017, equation 6)."""

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.errors import BadInput, NonFinite


def gaussian_statistics(
    features: Float[Tensor, "n d"],
) -> tuple[Float[Tensor, " d"], Float[Tensor, "d d"]]:
    """Mean and unbiased covariance of features, float64.

    Raises:
        BadInput: fewer than two rows.
        NonFinite: the features contain NaN or infinity.
    """
    if features.ndim != 2 or len(features) < 2:
        raise BadInput(f"features [n, d] of at least two images are needed, not {list(features.shape)}.")
    if not torch.isfinite(features).all():
        raise NonFinite("the features contain NaN or infinity.")
    x = features.double()
    mu = x.mean(dim=0)
    centred = x - mu
    return mu, centred.T @ centred / (len(x) - 1)


def frechet_distance(
    mu1: Float[Tensor, " d"], S1: Float[Tensor, "d d"], mu2: Float[Tensor, " d"], S2: Float[Tensor, "d d"]
) -> float:
    """Fréchet distance |mu1 - mu2|^2 + Tr(S1 + S2 - 2 (S1 S2)^(1/2)) of two Gaussians, at least 0, in float64.

    Tr (S1 S2)^(1/2) is the sum of the square roots of the eigenvalues of S1 S2. These roots are the singular values of
    S1^(1/2) S2^(1/2), which are accurate for singular covariances as well.

    Raises:
        BadInput: S1 or S2 is no covariance (symmetric, no negative eigenvalue).
        NonFinite: S1 or S2 contains NaN or infinity.
    """
    mu1, S1, mu2, S2 = (x.double() for x in (mu1, S1, mu2, S2))
    cross = torch.linalg.svdvals(_root(S1) @ _root(S2)).sum()
    distance = (mu1 - mu2).square().sum() + S1.trace() + S2.trace() - 2 * cross
    return max(0.0, distance.item())


def feature_distance(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> float:
    """Fréchet distance between two sets of features, in squared units of the features; 0 for equal sets.

    The estimate is biased upwards for small sets: compare only values from sets of the same sizes.
    """
    return frechet_distance(*gaussian_statistics(a), *gaussian_statistics(b))


def _root(S: Float[Tensor, "d d"]) -> Float[Tensor, "d d"]:
    """The symmetric square root; eigenvalues that are negative by rounding count as 0."""
    if not torch.isfinite(S).all():
        raise NonFinite("the covariance contains NaN or infinity.")
    tolerance = 1e-6 * float(S.abs().max())
    if (S - S.T).abs().max() > tolerance:
        raise BadInput("a covariance must be symmetric.")
    values, vectors = torch.linalg.eigh(S)
    if values.min() < -tolerance:
        raise BadInput("a covariance must have no negative eigenvalue.")
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T
