"""The local tangent basis: the n largest singular triplets of the Jacobian of the bottleneck map.

With J = U Lambda V^T at x (Park et al., arXiv 2302.12469, section 3.2), the right singular vectors v_i are the unit
vectors of X along which the bottleneck changes most, lambda_i = |J v_i| are their pullback norms, and the left singular
vectors u_i = J v_i / lambda_i are unit vectors of H. The span of u_1 ... u_n approximates the tangent space of H at
f(x).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.noise import gaussian
from sfumato.core.step import to_float64
from sfumato.errors import BadInput
from sfumato.geometry.jacobian import BottleneckMap, Jacobian
from sfumato.geometry.krylov import Triplets, largest_triplets
from sfumato.geometry.passes import Passes

Algorithm: TypeAlias = Literal["exact", "krylov"]

BLOCK = 4
"""Vectors per step of the Krylov method; larger blocks use the hardware better but need more products."""
JVP_COST = 1.35
"""Cost of a Jacobian-vector product J v relative to a vector-Jacobian product J^T u (measured)."""
ZERO = 16.0
"""Singular values below ZERO * eps * lambda_1 are treated as zero; eps is the machine epsilon of the dtype of h."""
UNKNOWN = 0.25
"""Residual, relative to lambda_n, above which an error is raised because the singular vectors are inaccurate."""
ANGLE = 1e-4
"""Default tolerance of the Krylov method: angle in radians between the computed and the true span of the n vectors."""


@dataclass(frozen=True, eq=False)
class Basis:
    """The n largest singular triplets of J at each of b samples, largest singular value first.

    The sign of each pair (v_i, u_i) is chosen so that the largest entry of u_i is positive.

    Attributes:
        x: latents at which J was computed, [b,c,h,w].
        h: f(x), [b,d].
        v: right singular vectors, unit vectors of X, [b,n,c,h,w].
        values: singular values lambda_i, [b,n].
        u: left singular vectors, unit vectors of H, [b,n,d].
        t: timestep.
        angle: estimated upper bound of the angle in radians between the span of the n vectors and the true span, [b];
            see `krylov.Triplets`. 0 for the exact algorithm; large if lambda_n and lambda_{n+1} are nearly equal.
        algorithm: "exact" or "krylov".
        passes: number of evaluations and products; see `Passes`.
    """

    x: Float[Tensor, "b c h w"]
    h: Float[Tensor, "b d"]
    v: Float[Tensor, "b n c h w"]
    values: Float[Tensor, "b n"]
    u: Float[Tensor, "b n d"]
    t: int
    angle: Float[Tensor, " b"]
    algorithm: Algorithm
    passes: Passes

    def __len__(self) -> int:
        return len(self.x)

    @property
    def n(self) -> int:
        """Number of directions."""
        return self.values.shape[1]

    def rows(self, index: Sequence[int]) -> "Basis":
        """Select the samples with these indices."""
        names = ("x", "h", "v", "values", "u", "angle")
        return replace(self, **{name: getattr(self, name)[list(index)] for name in names})

    def coefficients(self, u: Float[Tensor, "b d"]) -> Float[Tensor, "b n"]:
        """Compute the coefficients <u_i, u> of the projection of u onto the tangent space."""
        return torch.einsum("bnd,bd->bn", self.u, u.to(self.u.dtype))

    def combine(self, coefficients: Float[Tensor, "b n"]) -> Float[Tensor, "b d"]:
        """Compute the vector sum_i c_i u_i of H."""
        return torch.einsum("bnd,bn->bd", self.u, coefficients.to(self.u.dtype))

    def preimage(self, coefficients: Float[Tensor, "b n"]) -> Float[Tensor, "b c h w"]:
        """Compute the vector v of minimum norm with J v = sum_i c_i u_i: v = sum_i (c_i / lambda_i) v_i."""
        return torch.einsum("bnchw,bn->bchw", self.v, coefficients.to(self.v.dtype) / self.values)


def local_basis(
    f: BottleneckMap,
    x: Float[Tensor, "b c h w"],
    n: int,
    *,
    algorithm: Algorithm | None = None,
    seed: int = 0,
    tolerance: float = ANGLE,
) -> Basis:
    """Compute the n largest singular triplets of J at every sample.

    Args:
        f: the map from x_t to the bottleneck.
        x: latents at f.t.
        n: number of directions.
        algorithm: "exact" (the complete Jacobian and its SVD) or "krylov" (block Lanczos bidiagonalisation); None
            selects the one with the lower estimated cost.
        seed: seed of the random start block of the Krylov method; the block is the same for every sample.
        tolerance: angle in radians to the true span at which the Krylov method stops.

    Raises:
        BadInput: n is below 1 or above the largest possible rank of J (checked before any evaluation) or above its
            numerical rank, or the algorithm is unknown.
        NonFinite: J contains NaN or infinity; the message names the layer.
    """
    return joined(local_bases(f, x, n, algorithm=algorithm, seed=seed, tolerance=tolerance))


def local_bases(
    f: BottleneckMap,
    x: Float[Tensor, "b c h w"],
    n: int,
    *,
    algorithm: Algorithm | None = None,
    seed: int = 0,
    tolerance: float = ANGLE,
) -> Iterator[Basis]:
    """Yield `local_basis` for batches of samples; the arguments are checked when the function is called."""
    rank = check_n(f, x, n)
    if algorithm not in ("exact", "krylov", None):
        raise BadInput(f'algorithm must be "exact", "krylov" or None, not {algorithm!r}.')
    chosen: Algorithm = algorithm or ("exact" if exact_cost(f, x) <= krylov_cost(n) else "krylov")
    rows = min(rank, f.chunk) if chosen == "exact" else min(BLOCK, f.chunk)
    return _parts(f, x, n, chosen, max(1, f.chunk // rows), seed, tolerance)


def _parts(
    f: BottleneckMap, x: Tensor, n: int, chosen: Algorithm, together: int, seed: int, tolerance: float
) -> Iterator[Basis]:
    for index, part in f.split(len(x), together):
        before = replace(f.passes)
        jacobian = part.at(x[index])
        found = _exact(jacobian, n) if chosen == "exact" else _krylov(jacobian, n, seed, tolerance)
        yield replace(_assemble(jacobian, found, chosen), passes=f.passes - before)


def joined(parts: Iterable[Basis]) -> Basis:
    """Concatenate bases along the samples."""
    each = list(parts)
    names = ("x", "h", "v", "values", "u", "angle")
    fields = {name: torch.cat([getattr(part, name) for part in each]) for name in names}
    return replace(each[0], **fields, passes=sum((part.passes for part in each), Passes()))


def check_n(f: BottleneckMap, x: Float[Tensor, "b c h w"], n: int, name: str = "n") -> int:
    """Check n and return the largest possible rank of J at x.

    Args:
        f: the map from x_t to the bottleneck.
        x: latents; only their shape is used.
        n: number of directions.
        name: name of the parameter in the error message.

    Raises:
        BadInput: n is not between 1 and the rank.
    """
    rank = largest_rank(f, x)
    if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= rank:
        kind = "summed bottleneck" if f.pool else "bottleneck"
        raise BadInput(
            f"{name} must be between 1 and {rank}, the largest rank of the Jacobian of this network's {kind}, "
            f"not {n!r}."
        )
    return rank


def largest_rank(f: BottleneckMap, x: Float[Tensor, "b c h w"]) -> int:
    """Return the largest possible rank of J, the minimum of the dimensions of X and H."""
    return min(torch.Size(f.h_shape(*x.shape[-2:])).numel(), x[0].numel())


def exact_cost(f: BottleneckMap, x: Float[Tensor, "b c h w"]) -> float:
    """Estimate the cost of the complete Jacobian, in products J^T u.

    The Jacobian needs one J^T u per row, or one J v per column if there are fewer columns.
    """
    d_h, d_x = torch.Size(f.h_shape(*x.shape[-2:])).numel(), x[0].numel()
    return d_h if d_h <= d_x else JVP_COST * d_x


def krylov_cost(n: int) -> float:
    """Estimate the cost of the Krylov method, in products J^T u (measured, see docs/geometry.md)."""
    return (4 * BLOCK + 2 * n) * (1 + JVP_COST)


def _exact(jacobian: Jacobian, n: int) -> Triplets:
    """The n largest triplets from the SVD of J, computed by rows (VJP) or columns (JVP), whichever are fewer."""
    b, shape = len(jacobian.x), jacobian.x.shape[1:]
    size = min(jacobian.d_h, jacobian.d_x)
    unit = torch.eye(size, device=jacobian.x.device).expand(b, size, size)
    if jacobian.d_h <= jacobian.d_x:
        matrix = to_float64(jacobian.vjp(unit).flatten(2))
    else:
        matrix = to_float64(jacobian.jvp(unit.unflatten(2, shape))).mT
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    none = torch.zeros_like(values[:, 0])
    return Triplets(left[:, :, :n], values[:, :n], right[:, :n].mT, angle=none, residual=none)


def _krylov(jacobian: Jacobian, n: int, seed: int, tolerance: float) -> Triplets:
    """The n largest triplets by the block Krylov method, applied to J if d_x <= d_h and to J^T otherwise.

    The random start block is then in the space of smaller dimension, of which it spans a larger part.
    """
    b, shape = len(jacobian.x), jacobian.x.shape[1:]

    def to_h(v: Tensor) -> Tensor:
        return to_float64(jacobian.jvp(v.mT.unflatten(2, shape))).mT

    def to_x(u: Tensor) -> Tensor:
        return to_float64(jacobian.vjp(u.mT).flatten(2)).mT

    size = min(jacobian.d_h, jacobian.d_x)
    start = gaussian((size, min(BLOCK, size)), seed, step=jacobian.f.t, tag="basis", device=jacobian.x.device)
    blocks = to_float64(start).expand(b, -1, -1)
    if jacobian.d_x <= jacobian.d_h:
        return largest_triplets(to_h, to_x, blocks, n, most=size, tolerance=tolerance)
    found = largest_triplets(to_x, to_h, blocks, n, most=size, tolerance=tolerance)
    return replace(found, left=found.right, right=found.left)  # left vectors of J^T are right vectors of J


def _assemble(jacobian: Jacobian, found: Triplets, algorithm: Algorithm) -> Basis:
    """The basis from the triplets, with normalised signs, in the dtype of the latents.

    Raises:
        BadInput: a singular value is zero up to rounding, or the vectors have not converged.
    """
    f, x = jacobian.f, jacobian.x.detach()
    floor = found.values[:, :1] * torch.finfo(jacobian.h.dtype).eps * ZERO
    rank = int((found.values > floor).sum(dim=1).min())
    n = found.values.shape[1]
    if rank < n:
        raise BadInput(f"The Jacobian has rank {rank} at this latent: n must be between 1 and {rank}, not {n}.")
    if bool((found.residual > UNKNOWN * found.values[:, -1]).any()):
        raise BadInput(
            f"The last of {n} directions cannot be distinguished from rounding errors of this network: "
            "request fewer directions."
        )
    u, v = found.left.mT, found.right.mT
    largest = u.gather(2, u.abs().argmax(dim=2, keepdim=True))
    sign = torch.where(largest < 0, -1.0, 1.0).to(u.dtype)
    u, v = (sign * u).to(jacobian.h.dtype), (sign * v).to(x.dtype).unflatten(2, x.shape[1:])
    return Basis(x, jacobian.h, v, found.values.to(x.dtype), u, f.t, found.angle, algorithm, Passes())
