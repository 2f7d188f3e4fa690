"""Paths between two latents and their lengths (Park et al., arXiv 2302.12469, section 4.2).

The length of a path is the sum over its segments; the paper uses 30 segments.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice, pairwise
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
    """Lengths of every segment of a batch of paths; x and x' are the ends of a segment.

    Attributes:
        semantic: geodesic distance D_geo of the tangent spaces at x and x', [b,segments].
        bottleneck: |f(x') - f(x)|, [b,segments].
        latent: |x' - x|, [b,segments].
    """

    semantic: Float[Tensor, "b segments"]
    bottleneck: Float[Tensor, "b segments"]
    latent: Float[Tensor, "b segments"]


@dataclass(frozen=True, eq=False)
class TangentSpace:
    """The parts of a basis from which lengths are computed; its v would need n times the memory of the latents.

    Attributes:
        x: a point of every path, [b,c,h,w].
        h: f(x), [b,d].
        u: basis of the tangent space at h, [b,n,d].
    """

    x: Float[Tensor, "b c h w"]
    h: Float[Tensor, "b d"]
    u: Float[Tensor, "b n d"]

    @classmethod
    def of(cls, basis: Basis) -> "TangentSpace":
        """Return the tangent space that a basis spans."""
        return cls(basis.x, basis.h, basis.u)


def lerp(a: Float[Tensor, "b c h w"], b: Float[Tensor, "b c h w"], share: float) -> Float[Tensor, "b c h w"]:
    """Linear interpolation (1 - share) a + share b; for Gaussian latents, the norm decreases between the ends."""
    return (1 - share) * a + share * b


def slerp(a: Float[Tensor, "b c h w"], b: Float[Tensor, "b c h w"], share: float) -> Float[Tensor, "b c h w"]:
    """Spherical linear interpolation (Shoemake, 1985) of the directions; the norm is interpolated linearly.

        x / |x| = sin((1 - share) w) / sin(w) a / |a| + sin(share w) / sin(w) b / |b|,    w the angle between a and b

    Raises:
        BadInput: a and b have opposite directions, so that the great circle is not unique.
    """
    lengths = [torch.linalg.vector_norm(each, dim=(1, 2, 3), keepdim=True) for each in (a, b)]
    unit_a, unit_b = (each / length.clamp_min(1e-30) for each, length in zip((a, b), lengths, strict=True))
    chord = torch.linalg.vector_norm(unit_b - unit_a, dim=(1, 2, 3), keepdim=True)
    rest = torch.linalg.vector_norm(unit_b + unit_a, dim=(1, 2, 3), keepdim=True)
    if bool((rest < 1e-6).any()):
        raise BadInput("The two latents are opposite, so the great circle between them is not unique: use lerp.")
    angle = 2 * torch.atan2(chord, rest)  # accurate near 0 and pi, where arccos(<a, b>) is not
    sine = torch.sin(angle)
    near = angle < 1e-6  # the limit of the weights at angle 0 is that of lerp
    weight_a = torch.where(near, 1 - share, torch.sin((1 - share) * angle) / sine)
    weight_b = torch.where(near, share, torch.sin(share * angle) / sine)
    return (weight_a * unit_a + weight_b * unit_b) * ((1 - share) * lengths[0] + share * lengths[1])


def geodesic(
    f: BottleneckMap,
    a: Float[Tensor, "b c h w"],
    b: Float[Tensor, "b c h w"],
    *,
    segments: int,
    n: int,
    callback: Callable[[TangentSpace], None] | None = None,
) -> Iterator[Float[Tensor, "b c h w"]]:
    """Yield the points of a path from a to b whose image in H approximates a straight line.

    H is flat, so that its geodesic is the straight line from f(a) to f(b). In every segment, the remaining vector
    r = f(b) - f(x) is projected onto the tangent space and pulled back to sum_i (<u_i, r> / lambda_i) v_i, which is
    divided by the number of remaining segments. In the directions orthogonal to the v_i, along which the bottleneck
    changes least, the path follows the great circle. The step along the v_i is limited to the length of that of the
    great circle, because f is approximately linear only locally. The last point is b.

    Args:
        f: the map from x_t to the bottleneck.
        a: first latents, at f.t.
        b: last latents, at f.t.
        segments: number of segments, at least 1.
        n: dimension of the tangent spaces.
        callback: called with the tangent space at every point but the last two, in order.
    """
    x, goal = a, f(b)
    yield x
    for left in range(segments, 1, -1):
        basis = local_basis(f, x, n)
        if callback is not None:
            callback(TangentSpace.of(basis))
        along = slerp(x, b, 1 / left) - x  # step of the great circle
        inside = torch.einsum("bnchw,bchw->bn", basis.v, along.to(basis.v.dtype))  # its coefficients <v_i, along>
        across = along - torch.einsum("bnchw,bn->bchw", basis.v, inside)
        aimed = basis.preimage(basis.coefficients(goal - basis.h)) / left  # pull-back of r / left
        x = x + across + _clip_norm(aimed, torch.linalg.vector_norm(inside, dim=1))
        yield x
    yield b


def _clip_norm(v: Float[Tensor, "b c h w"], most: Float[Tensor, " b"]) -> Float[Tensor, "b c h w"]:
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
    callback: Callable[[TangentSpace], None] | None = None,
) -> Iterator[Float[Tensor, "b c h w"]]:
    """Yield the segments + 1 points of a path from a to b.

    Args:
        kind: "lerp", "slerp" or "geodesic".
        a: first point.
        b: last point.
        segments: number of segments, at least 1.
        f: the map from x_t to the bottleneck; required for "geodesic".
        n: dimension of the tangent spaces; required for "geodesic".
        callback: as for `geodesic`; not called for the other kinds.

    Raises:
        BadInput: the latents differ in shape, or an argument is out of range; raised before any evaluation.
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
        return geodesic(f, a, b, segments=segments, n=n, callback=callback)
    between = {"lerp": lerp, "slerp": slerp}[kind]
    return (between(a, b, k / segments) for k in range(segments + 1))


def path_lengths(f: BottleneckMap, points: Iterator[Tensor], n: int, known: Sequence[TangentSpace] = ()) -> PathLengths:
    """Compute the lengths of the segments of a path.

    Args:
        f: the map from x_t to the bottleneck.
        points: the points of the path, [b,c,h,w] each.
        n: dimension of the tangent spaces; one basis is computed per point.
        known: the tangent spaces of dimension n at the first points, if they are already computed.
    """
    others = (TangentSpace.of(local_basis(f, x, n)) for x in islice(points, len(known), None))
    rows = [_segment(one, other) for one, other in pairwise(chain(known, others))]
    return PathLengths(*(torch.stack(part, dim=1) for part in zip(*rows, strict=True)))


def perceptual_lengths(
    images: Float[Tensor, "points 3 h w"], distance: Callable[[Tensor, Tensor], Tensor]
) -> Float[Tensor, " segments"]:
    """Compute a perceptual distance such as LPIPS of consecutive images; their sum is the perceptual length."""
    return distance(images[:-1], images[1:])


def _segment(one: TangentSpace, other: TangentSpace) -> tuple[Tensor, Tensor, Tensor]:
    moved = torch.linalg.vector_norm(other.h - one.h, dim=1)
    return geodesic_distance(one.u, other.u), moved, torch.linalg.vector_norm(other.x - one.x, dim=(1, 2, 3))
