"""The local tangent basis: the directions of X along which the bottleneck moves most, and where it moves.

With J = U Lambda V^T at x (Park et al., arXiv 2302.12469, section 3.2): v_i are unit vectors of X, lambda_i = |J v_i|
their pullback norms, and u_i = J v_i / lambda_i unit vectors of H. The n largest span the tangent space, which
is taken for the whole of it.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.noise import gaussian
from sfumato.core.step import wide
from sfumato.errors import BadInput
from sfumato.geometry.jacobian import BottleneckMap, Jacobian
from sfumato.geometry.krylov import Triplets, largest_triplets
from sfumato.geometry.passes import Passes

Algorithm: TypeAlias = Literal["exact", "krylov"]

BLOCK = 4
"""Vectors per step of the Krylov method: enough to keep a processor busy, few enough to waste little."""
JVP_COST = 1.35
"""What a product J v costs, in products J^T u."""
ZERO = 16.0
"""Roundings of the largest singular value below which one counts as zero."""
UNKNOWN = 0.25
"""Residual, as a share of the last singular value, at which a direction is not one."""
ANGLE = 1e-4
"""How well the span of the n vectors is known, in radians."""


@dataclass(frozen=True, eq=False)
class Basis:
    """n directions at every one of b samples, largest singular value first.

    The sign of each pair (v_i, u_i) is chosen so that the largest entry of u_i is positive.

    Attributes:
        x: where it was taken, [b,c,h,w].
        h: f(x), [b,d].
        v: unit vectors of X, [b,n,c,h,w].
        values: lambda_i, [b,n].
        u: unit vectors of H, [b,n,d].
        t: timestep.
        angle: between the span of all n and the true one, at most, radians, [b]; an estimate, see `krylov.Triplets`;
            0 for the exact algorithm. It is large where the last singular values hardly differ from the next one.
        algorithm: which one was used.
        passes: what it took; see `Passes`.
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
        """Some of the samples."""
        names = ("x", "h", "v", "values", "u", "angle")
        return replace(self, **{name: getattr(self, name)[list(index)] for name in names})

    def coefficients(self, u: Float[Tensor, "b d"]) -> Float[Tensor, "b n"]:
        """<u_i, u>: the projection of a vector of H onto the tangent space, in its basis."""
        return torch.einsum("bnd,bd->bn", self.u, u.to(self.u.dtype))

    def combine(self, coefficients: Float[Tensor, "b n"]) -> Float[Tensor, "b d"]:
        """sum_i c_i u_i."""
        return torch.einsum("bnd,bn->bd", self.u, coefficients.to(self.u.dtype))

    def preimage(self, coefficients: Float[Tensor, "b n"]) -> Float[Tensor, "b c h w"]:
        """The shortest v with J v = sum_i c_i u_i: sum_i (c_i / lambda_i) v_i."""
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
    """The n largest directions at every sample.

    Args:
        f: the map.
        x: latents.
        n: how many.
        algorithm: "exact" (the whole Jacobian and its SVD) or "krylov"; None for the cheaper one.
        seed: of the Krylov method's start, which is the same for every sample.
        tolerance: angle in radians at which the Krylov method stops.

    Raises:
        BadInput: n below 1, or larger than the rank of J can be (before any evaluation) or is, up to rounding.
        NonFinite: J holds NaN or infinity; names the layer.
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
    """The parts of `local_basis` as they are found, as many samples as are worked on together; checked at once."""
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
    """The bases of some samples and of others as one."""
    each = list(parts)
    names = ("x", "h", "v", "values", "u", "angle")
    fields = {name: torch.cat([getattr(part, name) for part in each]) for name in names}
    return replace(each[0], **fields, passes=sum((part.passes for part in each), Passes()))


def check_n(f: BottleneckMap, x: Float[Tensor, "b c h w"], n: int, name: str = "n") -> int:
    """The largest rank that J can have at x, after refusing an n beyond it; `name` is what the caller calls it.

    Raises:
        BadInput: names the range.
    """
    rank = largest_rank(f, x)
    if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= rank:
        kind = "summed bottleneck" if f.pool else "bottleneck"
        raise BadInput(f"{name} must be between 1 and {rank}, the rank that this network's {kind} can have, not {n!r}.")
    return rank


def largest_rank(f: BottleneckMap, x: Float[Tensor, "b c h w"]) -> int:
    """The smaller of the dimensions of X and H."""
    return min(torch.Size(f.h_shape(*x.shape[-2:])).numel(), x[0].numel())


def exact_cost(f: BottleneckMap, x: Float[Tensor, "b c h w"]) -> float:
    """How many products J^T u the whole Jacobian costs as much as: its rows, or its columns where they are fewer."""
    d_h, d_x = torch.Size(f.h_shape(*x.shape[-2:])).numel(), x[0].numel()
    return d_h if d_h <= d_x else JVP_COST * d_x


def krylov_cost(n: int) -> float:
    """About how many products J^T u the Krylov method costs as much as (measured, see docs/geometry.md)."""
    return (4 * BLOCK + 2 * n) * (1 + JVP_COST)


def _exact(jacobian: Jacobian, n: int) -> Triplets:
    """All of J, row by row or column by column, whichever are fewer, and its SVD."""
    b, shape = len(jacobian.x), jacobian.x.shape[1:]
    size = min(jacobian.d_h, jacobian.d_x)
    unit = torch.eye(size, device=jacobian.x.device).expand(b, size, size)
    if jacobian.d_h <= jacobian.d_x:
        matrix = wide(jacobian.vjp(unit).flatten(2))
    else:
        matrix = wide(jacobian.jvp(unit.unflatten(2, shape))).mT
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    none = torch.zeros_like(values[:, 0])
    return Triplets(left[:, :, :n], values[:, :n], right[:, :n].mT, angle=none, residual=none)


def _krylov(jacobian: Jacobian, n: int, seed: int, tolerance: float) -> Triplets:
    """The iteration starts on the smaller side, of which fewer random vectors miss less."""
    b, shape = len(jacobian.x), jacobian.x.shape[1:]

    def to_h(v: Tensor) -> Tensor:
        return wide(jacobian.jvp(v.mT.unflatten(2, shape))).mT

    def to_x(u: Tensor) -> Tensor:
        return wide(jacobian.vjp(u.mT).flatten(2)).mT

    size = min(jacobian.d_h, jacobian.d_x)
    start = gaussian((size, min(BLOCK, size)), seed, step=jacobian.f.t, tag="basis", device=jacobian.x.device)
    blocks = wide(start).expand(b, -1, -1)
    if jacobian.d_x <= jacobian.d_h:
        return largest_triplets(to_h, to_x, blocks, n, most=size, tolerance=tolerance)
    found = largest_triplets(to_x, to_h, blocks, n, most=size, tolerance=tolerance)
    return replace(found, left=found.right, right=found.left)


def _assemble(jacobian: Jacobian, found: Triplets, algorithm: Algorithm) -> Basis:
    """Triplets as a basis: signs chosen, in the precision of the latents.

    Raises:
        BadInput: a singular value is zero up to rounding, or the vectors are not known.
    """
    f, x = jacobian.f, jacobian.x.detach()
    floor = found.values[:, :1] * torch.finfo(jacobian.h.dtype).eps * ZERO
    rank = int((found.values > floor).sum(dim=1).min())
    n = found.values.shape[1]
    if rank < n:
        raise BadInput(f"The Jacobian has rank {rank} at this latent: n must be between 1 and {rank}, not {n}.")
    if bool((found.residual > UNKNOWN * found.values[:, -1]).any()):
        raise BadInput(f"The last of {n} directions cannot be told from the rounding of this network: take fewer.")
    u, v = found.left.mT, found.right.mT
    largest = u.gather(2, u.abs().argmax(dim=2, keepdim=True))
    sign = torch.where(largest < 0, -1.0, 1.0).to(u.dtype)
    u, v = (sign * u).to(jacobian.h.dtype), (sign * v).to(x.dtype).unflatten(2, x.shape[1:])
    return Basis(x, jacobian.h, v, found.values.to(x.dtype), u, f.t, found.angle, algorithm, Passes())
