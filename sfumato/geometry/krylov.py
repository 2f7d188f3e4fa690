"""The largest singular triplets of a matrix that is known by its products: a block Krylov method.

Randomised subspace iteration that throws nothing away (Halko, Martinsson, Tropp, arXiv 0909.4061, section 4.5; Musco
and Musco, arXiv 1504.05477, algorithm 2), in the form of Golub and Kahan. Q and P are orthonormal bases of what has
been tried on either side, and every product with them is kept:

    C = P^T A Q = L S R^T,    the estimates are P L, the values S, and Q R
    A^T P L - Q R S           is the residual of each triplet: what the next block is made of

One product with A and one with A^T per vector; none is computed twice, and the residuals cost none.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

Product: TypeAlias = Callable[[Tensor], Tensor]
"""Columns to columns: [b, columns, m] -> [b, rows, m]."""

SINGULAR = 0.01
"""Residual, as a share of the smallest singular value wanted, that a pair of singular vectors may have."""
PATIENCE = 2
"""Blocks without a smaller residual after which a larger one is taken for all that the products can tell."""


@dataclass(frozen=True, eq=False)
class Triplets:
    """A q = s l and A^T l = s q, largest s first.

    Attributes:
        left: l, [b, rows, n].
        values: s, [b, n].
        right: q, [b, columns, n].
        angle: between the span of the n vectors and the true one on either side, at most, in radians, [b]; by Wedin's
            theorem, with s_{n+1} as far as it is known: estimated with its residual from what has been tried.
        residual: |A^T l - s q| of the n triplets together (largest singular value), [b].
    """

    left: Float[Tensor, "b rows n"]
    values: Float[Tensor, "b n"]
    right: Float[Tensor, "b columns n"]
    angle: Float[Tensor, " b"]
    residual: Float[Tensor, " b"]


@dataclass
class _Tried:
    """Q, A Q, P, A^T P, all with m columns."""

    q: Tensor
    a_q: Tensor
    p: Tensor
    at_p: Tensor

    def extend(self, other: "_Tried") -> "_Tried":
        pairs = ((self.q, other.q), (self.a_q, other.a_q), (self.p, other.p), (self.at_p, other.at_p))
        return _Tried(*(torch.cat(pair, dim=2) for pair in pairs))


def largest_triplets(
    product: Product, adjoint: Product, start: Float[Tensor, "b columns p"], n: int, *, most: int, tolerance: float
) -> Triplets:
    """The n largest singular triplets of every matrix of a batch.

    It stops when the subspaces of all matrices are known to `tolerance`, when the residuals have sunk into the
    rounding of the products, or when Q has `most` columns. The first test is about subspaces: signs of the vectors,
    and rotations within the span, do not count. For the second, P^T (A Q) and (A^T P)^T Q are equal up to rounding,
    which is thereby measured; where it is coarse, residuals below it still fall, and are waited for.

    Args:
        product: A.
        adjoint: A^T.
        start: any independent vectors; p of them make a block.
        n: how many triplets, at most `most`.
        most: most columns of Q, at most the number of columns and of rows of A.
        tolerance: angle in radians.
    """
    tried = _try(product, adjoint, start[:, :, :most], None)
    lowest, waited = torch.full_like(start[:, 0, 0], torch.inf), torch.zeros_like(start[:, 0, 0])
    while True:
        room = most - tried.q.shape[2]
        if room < 1 or tried.q.shape[2] > n:
            found, rounding = _estimates(tried, n)
            waited = torch.where(found.residual < lowest, 0, waited + 1)
            lowest = torch.minimum(found.residual, lowest)
            rounding &= (found.residual <= SINGULAR * found.values[:, -1]) | (waited >= PATIENCE)
            if room < 1 or bool(((found.angle <= tolerance) | rounding).all()):
                return found
        block = tried.at_p[:, :, -start.shape[2] :][:, :, :room]
        tried = tried.extend(_try(product, adjoint, block, tried))


def _try(product: Product, adjoint: Product, block: Tensor, before: _Tried | None) -> _Tried:
    q = _orthonormal(block, None if before is None else before.q)
    a_q = product(q)
    p = _orthonormal(a_q, None if before is None else before.p)
    return _Tried(q, a_q, p, adjoint(p))


def _estimates(tried: _Tried, n: int) -> tuple[Triplets, Tensor]:
    """The n largest triplets that the bases hold, and whether their residuals are below the rounding, [b]."""
    core = tried.p.mT @ tried.a_q
    left, values, right = torch.linalg.svd(core, full_matrices=False)
    left, right = left[:, :, : n + 1], right[:, : n + 1].mT
    residual = (tried.at_p - tried.q @ core.mT) @ left
    size = torch.linalg.vector_norm(residual, dim=1)
    # the largest that s_{n+1} can be, as far as is known
    following = (values[:, n] + size[:, n]) if values.shape[1] > n else torch.zeros_like(values[:, 0])
    gap = (values[:, n - 1] - following).clamp_min(torch.finfo(values.dtype).tiny)
    distance = torch.linalg.matrix_norm(residual[:, :, :n], ord=2)
    columns, m = tried.q.shape[1:]
    mismatch = torch.linalg.matrix_norm(core - tried.at_p.mT @ tried.q)
    rounding = distance <= mismatch * (columns / m) ** 0.5
    spans = tried.p @ left[:, :, :n], values[:, :n], tried.q @ right[:, :, :n]
    return Triplets(*spans, torch.atan(distance / gap), distance), rounding


def _orthonormal(
    block: Float[Tensor, "b columns p"], against: Float[Tensor, "b columns m"] | None
) -> Float[Tensor, "b columns p"]:
    """An orthonormal basis of a block's span, orthogonal to `against`; twice, because once leaves rounding."""
    for _ in range(2):
        if against is not None:
            block = block - against @ (against.mT @ block)
        block = torch.linalg.qr(block)[0]
    return block
