"""The Frechet distance between two sets of features, each taken as a Gaussian (Heusel et al. 2017, equation 6)."""

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.errors import BadInput, NonFinite


def gaussian_statistics(
    features: Float[Tensor, "n d"],
) -> tuple[Float[Tensor, " d"], Float[Tensor, "d d"]]:
    """Mean and unbiased covariance in float64. Raises BadInput for fewer than two rows, NonFinite for NaN."""
    if features.ndim != 2 or len(features) < 2:
        raise BadInput(f"features [n, d] of at least two pictures are needed, not {list(features.shape)}.")
    if not torch.isfinite(features).all():
        raise NonFinite("the features hold NaN or infinity.")
    x = features.double()
    mu = x.mean(dim=0)
    centred = x - mu
    return mu, centred.T @ centred / (len(x) - 1)


def frechet_distance(
    mu1: Float[Tensor, " d"], S1: Float[Tensor, "d d"], mu2: Float[Tensor, " d"], S2: Float[Tensor, "d d"]
) -> float:
    """|mu1 - mu2|^2 + Tr(S1 + S2 - 2 (S1 S2)^(1/2)), at least 0; computed in float64.

    Tr (S1 S2)^(1/2) is the sum of the roots of the eigenvalues of S1 S2, which are the singular values of
    S1^(1/2) S2^(1/2); the latter are exact where a covariance is singular too.
    Raises BadInput unless S1 and S2 are covariances (symmetric, no negative eigenvalue).
    """
    mu1, S1, mu2, S2 = (x.double() for x in (mu1, S1, mu2, S2))
    cross = torch.linalg.svdvals(_root(S1) @ _root(S2)).sum()
    distance = (mu1 - mu2).square().sum() + S1.trace() + S2.trace() - 2 * cross
    return max(0.0, distance.item())


def feature_distance(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> float:
    """Frechet distance between two sets of features: 0 for the same set, in squared units of the features.

    It is biased upwards for few pictures: compare only figures from sets of the same sizes.
    """
    return frechet_distance(*gaussian_statistics(a), *gaussian_statistics(b))


def _root(S: Float[Tensor, "d d"]) -> Float[Tensor, "d d"]:
    """The symmetric square root; eigenvalues that rounding made negative count as 0."""
    if not torch.isfinite(S).all():
        raise NonFinite("the covariance holds NaN or infinity.")
    tolerance = 1e-6 * float(S.abs().max())
    if (S - S.T).abs().max() > tolerance:
        raise BadInput("a covariance must be symmetric.")
    values, vectors = torch.linalg.eigh(S)
    if values.min() < -tolerance:
        raise BadInput("a covariance must have no negative eigenvalue.")
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T
