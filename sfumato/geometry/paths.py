"""Paths between two latents, and how long they are (Park et al., arXiv 2302.12469, section 4.2).

All lengths are sums over segments; the paper divides a path into 30.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.errors import BadInput
from sfumato.geometry.basis import Basis, check_n, local_basis
from sfumato.geometry.jacobian import BottleneckMap
from sfumato.geometry.metric import geodesic_distance

PathKind: TypeAlias = Literal["lerp", "slerp", "geodesic"]
KINDS: tuple[PathKind, ...] = ("lerp", "slerp", "geodesic")
SEGMENTS = 30


@dataclass(frozen=True, eq=False)
class PathLengths:
    """Lengths of every segment of paths, [b,segments].

    Attributes:
        semantic: D_geo between the tangent spaces at its ends.
        bottleneck: |f(x') - f(x)|.
        latent: |x' - x|.
    """

    semantic: Float[Tensor, "b segments"]
    bottleneck: Float[Tensor, "b segments"]
    latent: Float[Tensor, "b segments"]


def lerp(a: Float[Tensor, "b c h w"], b: Float[Tensor, "b c h w"], share: float) -> Float[Tensor, "b c h w"]:
    """The point at `share` of the straight line; inside, it is shorter than noise is."""
    return (1 - share) * a + share * b


def slerp(a: Float[Tensor, "b c h w"], b: Float[Tensor, "b c h w"], share: float) -> Float[Tensor, "b c h w"]:
    """The point at `share` of the great circle (Shoemake, 1985); lengths are interpolated.

    Raises:
        BadInput: a and b are opposite, so that every great circle leads from one to the other.
    """
    lengths = [torch.linalg.vector_norm(each, dim=(1, 2, 3), keepdim=True) for each in (a, b)]
    unit_a, unit_b = (each / length.clamp_min(1e-30) for each, length in zip((a, b), lengths, strict=True))
    chord = torch.linalg.vector_norm(unit_b - unit_a, dim=(1, 2, 3), keepdim=True)
    rest = torch.linalg.vector_norm(unit_b + unit_a, dim=(1, 2, 3), keepdim=True)
    if bool((rest < 1e-6).any()):
        raise BadInput("The two latents are opposite, so there is no one great circle: use lerp.")
    angle = 2 * torch.atan2(chord, rest)
    sine = torch.sin(angle)
    near = angle < 1e-6
    weight_a = torch.where(near, 1 - share, torch.sin((1 - share) * angle) / sine)
    weight_b = torch.where(near, share, torch.sin(share * angle) / sine)
    return (weight_a * unit_a + weight_b * unit_b) * ((1 - share) * lengths[0] + share * lengths[1])


def geodesic(
    f: BottleneckMap, a: Float[Tensor, "b c h w"], b: Float[Tensor, "b c h w"], *, segments: int, n: int
) -> Iterator[Float[Tensor, "b c h w"]]:
    """Shoot from a to b: yield the points of a path whose image in H is as straight as the tangent spaces allow.

    H is flat, so its geodesic is the straight line from f(a) to f(b). In every segment what is left of it, r, is
    projected onto the tangent space and pulled back, sum_i (<u_i, r> / lambda_i) v_i; across the tangent space,
    where the bottleneck does not move, the path follows the great circle. The part in the tangent space is at most as
    long as the great circle's, because f is linear in a neighbourhood only; the last point is b.

    Args:
        f: the map.
        a: latents at f.t.
        b: the same.
        segments: at least 1.
        n: dimensions of the tangent spaces.
    """
    x, goal = a, f(b)
    yield x
    for left in range(segments, 1, -1):
        basis = local_basis(f, x, n)
        along = slerp(x, b, 1 / left) - x
        inside = torch.einsum("bnchw,bchw->bn", basis.v, along.to(basis.v.dtype))
        across = along - torch.einsum("bnchw,bn->bchw", basis.v, inside)
        aimed = basis.preimage(basis.coefficients(goal - basis.h)) / left
        x = x + across + _no_longer(aimed, torch.linalg.vector_norm(inside, dim=1))
        yield x
    yield b


def _no_longer(v: Float[Tensor, "b c h w"], most: Float[Tensor, " b"]) -> Float[Tensor, "b c h w"]:
    length = torch.linalg.vector_norm(v, dim=(1, 2, 3))
    return v * (most / length.clamp_min(1e-30)).clamp(max=1).reshape(-1, 1, 1, 1)


def path(
    kind: PathKind,
    a: Float[Tensor, "b c h w"],
    b: Float[Tensor, "b c h w"],
    *,
    segments: int = SEGMENTS,
    f: BottleneckMap | None = None,
    n: int = 0,
) -> Iterator[Float[Tensor, "b c h w"]]:
    """Yield the segments + 1 points of a path, a first and b last.

    Args:
        kind: "lerp", "slerp" or "geodesic".
        a: where it begins.
        b: where it ends.
        segments: at least 1.
        f: for the geodesic, the map whose bottleneck it goes through.
        n: for the geodesic, the dimensions of the tangent spaces.

    Raises:
        BadInput: latents of different shapes, or a number out of range; before any evaluation.
    """
    if kind not in KINDS:
        raise BadInput(f"path must be one of {', '.join(KINDS)}, not {kind!r}.")
    if a.shape != b.shape:
        raise BadInput(f"A path needs latents of one shape, not {list(a.shape)} and {list(b.shape)}.")
    if isinstance(segments, bool) or not isinstance(segments, int) or segments < 1:
        raise BadInput(f"A path has at least 1 segment, not {segments!r}.")
    if kind == "geodesic":
        if f is None:
            raise BadInput("A geodesic needs the map f.")
        check_n(f, a, n)
        return geodesic(f, a, b, segments=segments, n=n)
    between = {"lerp": lerp, "slerp": slerp}[kind]
    return (between(a, b, k / segments) for k in range(segments + 1))


def path_lengths(f: BottleneckMap, points: Iterator[Tensor], n: int) -> PathLengths:
    """Measure a path as it is walked; one tangent basis of n directions per point."""
    rows = [_segment(one, other) for one, other in pairwise(local_basis(f, x, n) for x in points)]
    return PathLengths(*(torch.stack(part, dim=1) for part in zip(*rows, strict=True)))


def perceptual_lengths(
    pictures: Float[Tensor, "points 3 h w"], distance: Callable[[Tensor, Tensor], Tensor]
) -> Float[Tensor, " segments"]:
    """The perceptual distance (LPIPS, say) of every two consecutive pictures; their sum is the perceptual length."""
    return distance(pictures[:-1], pictures[1:])


def _segment(one: Basis, other: Basis) -> tuple[Tensor, Tensor, Tensor]:
    moved = torch.linalg.vector_norm(other.h - one.h, dim=1)
    return geodesic_distance(one.u, other.u), moved, torch.linalg.vector_norm(other.x - one.x, dim=(1, 2, 3))
