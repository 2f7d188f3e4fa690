"""Distances between tangent spaces (Park et al., arXiv 2302.12469, section 4.2)."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.step import to_float64
from sfumato.errors import BadInput


def principal_angles(u1: Float[Tensor, "b n d"], u2: Float[Tensor, "b n d"]) -> Float[Tensor, "b n"]:
    """Compute the principal angles theta_k between two n-dimensional subspaces, radians in [0, pi/2], largest first.

    cos theta_k are the singular values of U_1 U_2^T. As arccos loses half of the digits of small angles, the sines are
    also computed: they are the singular values of U_2 - U_2 U_1^T U_1, the part of U_2 that is orthogonal to the first
    subspace (Bjoerck and Golub, 1973).

    Args:
        u1: orthonormal rows that span the first subspace.
        u2: orthonormal rows that span the second subspace.

    Raises:
        BadInput: the subspaces have different dimensions.
    """
    if u1.shape != u2.shape:
        raise BadInput(f"Tangent spaces must have the same dimensions, not {list(u1.shape)} and {list(u2.shape)}.")
    u1, u2 = to_float64(u1), to_float64(u2)
    overlap = u2 @ u1.mT
    cosines = torch.linalg.svdvals(overlap)
    sines = torch.linalg.svdvals(u2 - overlap @ u1)[..., : cosines.shape[-1]]
    return torch.atan2(sines, cosines.flip(-1).clamp_min(0))


def geodesic_distance(u1: Float[Tensor, "b n d"], u2: Float[Tensor, "b n d"]) -> Float[Tensor, " b"]:
    """Compute D_geo = sqrt(sum_k theta_k^2) of two subspaces: 0 if equal, sqrt(n) pi / 2 if orthogonal."""
    return torch.linalg.vector_norm(principal_angles(u1, u2), dim=-1)


def segment_lengths(spaces: Sequence[Float[Tensor, "b n d"]]) -> Float[Tensor, "b segments"]:
    """Compute D_geo between consecutive tangent spaces of a path; their sum is the semantic length of the path."""
    return torch.stack([geodesic_distance(a, b) for a, b in pairwise(spaces)], dim=1)
