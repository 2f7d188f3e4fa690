"""A block Krylov method for the largest singular triplets of a linear operator A.

Randomised block Krylov iteration (Halko, Martinsson, Tropp, arXiv 0909.4061, section 4.5; Musco and Musco, arXiv
1504.05477, algorithm 2) as block Lanczos bidiagonalisation (Golub and Kahan) with full reorthogonalisation. Q is an
orthonormal basis of the Krylov subspace of A^T A on a random start block, and P one of span(A Q). A Q and A^T P are
stored. With the SVD of the small matrix C,

    C = P^T A Q = L S R^T,    the estimates are P L (left vectors), S (values) and Q R (right vectors)

Since A Q = P C, A Q R = P L S holds exactly. The residuals of the triplets are A^T P L - Q R S, which are in the span
of the next block. Each vector of Q needs one product with A and one with A^T; the residuals need no products.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

Product: TypeAlias = Callable[[Tensor], Tensor]
"""Batched product with m columns: [b, columns, m] -> [b, rows, m]."""

SINGULAR = 0.01
"""A residual below the rounding errors is accepted immediately if it is at most this times the n-th singular value."""
PATIENCE = 2
"""Number of blocks without improvement after which any residual below the rounding errors is accepted."""


@dataclass(frozen=True, eq=False)
class Triplets:
    """The n largest singular triplets (l, s, q), A q = s l and A^T l = s q, largest s first.

    Attributes:
        left: left singular vectors l, [b, rows, n].
        values: singular values s, [b, n].
        right: right singular vectors q, [b, columns, n].
        angle: estimated upper bound of the angle in radians between the span of the n left or right vectors and the
            true span, [b]. By Wedin's theorem, tan(angle) <= residual / (s_n - s_{n+1}). The bound is an estimate,
            because s_{n+1} is approximated by its estimate plus the norm of its residual.
        residual: spectral norm of the n residuals A^T l - s q as one matrix, [b].
    """

    left: Float[Tensor, "b rows n"]
    values: Float[Tensor, "b n"]
    right: Float[Tensor, "b columns n"]
    angle: Float[Tensor, " b"]
    residual: Float[Tensor, " b"]


@dataclass
class _Bases:
    """Q, A Q, P and A^T P, each with m columns."""

    q: Tensor
    a_q: Tensor
    p: Tensor
    at_p: Tensor

    def extend(self, other: "_Bases") -> "_Bases":
        pairs = ((self.q, other.q), (self.a_q, other.a_q), (self.p, other.p), (self.at_p, other.at_p))
        return _Bases(*(torch.cat(pair, dim=2) for pair in pairs))


def largest_triplets(
    product: Product, adjoint: Product, start: Float[Tensor, "b columns p"], n: int, *, most: int, tolerance: float
) -> Triplets:
    """Compute the n largest singular triplets of every matrix of a batch.

    The iteration stops when Q has `most` columns, or when each matrix meets one of two conditions:

    - The angle to the true subspace is at most `tolerance`. It does not depend on the signs of the vectors or on
      rotations within the span.
    - The residuals are below the rounding errors of the products. P^T (A Q) and (A^T P)^T Q are equal in exact
      arithmetic, so that their difference is a measure of these errors. If the errors are large, residuals below them
      can still decrease; see `SINGULAR` and `PATIENCE`.

    Args:
        product: multiplies columns by A.
        adjoint: multiplies columns by A^T.
        start: linearly independent vectors; their number p is the block size.
        n: number of triplets, at most `most`.
        most: maximum number of columns of Q, at most the number of rows and of columns of A.
        tolerance: angle in radians.
    """
    bases = _products(product, adjoint, start[:, :, :most], None)
    lowest, waited = torch.full_like(start[:, 0, 0], torch.inf), torch.zeros_like(start[:, 0, 0])
    while True:
        room = most - bases.q.shape[2]
        if room < 1 or bases.q.shape[2] > n:
            found, rounding = _estimates(bases, n)
            waited = torch.where(found.residual < lowest, 0, waited + 1)
            lowest = torch.minimum(found.residual, lowest)
            rounding &= (found.residual <= SINGULAR * found.values[:, -1]) | (waited >= PATIENCE)
            if room < 1 or bool(((found.angle <= tolerance) | rounding).all()):
                return found
        # the newest block of A^T P extends the Krylov subspace
        block = bases.at_p[:, :, -start.shape[2] :][:, :, :room]
        bases = bases.extend(_products(product, adjoint, block, bases))


def _products(product: Product, adjoint: Product, block: Tensor, before: _Bases | None) -> _Bases:
    """The new columns of the bases and their products, from a block of vectors."""
    q = _orthonormal(block, None if before is None else before.q)
    a_q = product(q)
    p = _orthonormal(a_q, None if before is None else before.p)
    return _Bases(q, a_q, p, adjoint(p))


def _estimates(bases: _Bases, n: int) -> tuple[Triplets, Tensor]:
    """Estimates of the n largest triplets, and whether their residuals are below the rounding errors, [b]."""
    core = bases.p.mT @ bases.a_q  # C = P^T A Q
    left, values, right = torch.linalg.svd(core, full_matrices=False)
    left, right = left[:, :, : n + 1], right[:, : n + 1].mT
    residual = (bases.at_p - bases.q @ core.mT) @ left  # A^T P L - Q R S, since C^T L = R S
    size = torch.linalg.vector_norm(residual, dim=1)
    # estimated upper bound of s_{n+1}
    following = (values[:, n] + size[:, n]) if values.shape[1] > n else torch.zeros_like(values[:, 0])
    gap = (values[:, n - 1] - following).clamp_min(torch.finfo(values.dtype).tiny)
    distance = torch.linalg.matrix_norm(residual[:, :, :n], ord=2)
    # rounding errors: |P^T (A Q) - (A^T P)^T Q| (Frobenius), scaled from the m columns of Q to all columns
    columns, m = bases.q.shape[1:]
    mismatch = torch.linalg.matrix_norm(core - bases.at_p.mT @ bases.q)
    rounding = distance <= mismatch * (columns / m) ** 0.5
    spans = bases.p @ left[:, :, :n], values[:, :n], bases.q @ right[:, :, :n]
    return Triplets(*spans, torch.atan(distance / gap), distance), rounding


def _orthonormal(
    block: Float[Tensor, "b columns p"], against: Float[Tensor, "b columns m"] | None
) -> Float[Tensor, "b columns p"]:
    """Orthonormal basis of the span of a block, orthogonal to `against`; a second pass removes rounding errors."""
    for _ in range(2):
        if against is not None:
            block = block - against @ (against.mT @ block)
        block = torch.linalg.qr(block)[0]
    return block
