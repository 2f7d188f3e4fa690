"""Iterative editing by geodesic shooting (Park et al., arXiv 2302.12469, section 3.2).

    x -> x' = x + gamma v -> x'' = x' + gamma v' -> ...

X is curved, so v is not a tangent vector at x'. As H is nearly flat, u = J v / lambda is transported instead: it is
projected onto the tangent space at h' = f(x') and rescaled to unit length (parallel transport), which gives u'. v' is
the unit vector of X that J at x' maps to a multiple of u'.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.errors import BadInput
from sfumato.geometry.basis import Basis, check_n, local_basis
from sfumato.geometry.jacobian import BottleneckMap


@dataclass(frozen=True, eq=False)
class Shot:
    """One step of an edit from x to x'.

    Attributes:
        x: end point x', [b,c,h,w].
        v: unit vector of X, the direction of the step, [b,c,h,w].
        u: unit vector of H, the direction of J v, [b,d].
        angle: angle in radians between u and that of the previous step (at the first step, the given direction), [b].
        length: |f(x') - f(x)|, the distance in H, [b].
        expected: |gamma| ||v||_pb, the distance in H if f were linear, [b].
    """

    x: Float[Tensor, "b c h w"]
    v: Float[Tensor, "b c h w"]
    u: Float[Tensor, "b d"]
    angle: Float[Tensor, " b"]
    length: Float[Tensor, " b"]
    expected: Float[Tensor, " b"]


def transport(basis: Basis, u: Float[Tensor, "b d"]) -> tuple[Float[Tensor, "b n"], Float[Tensor, " b"]]:
    """Transport a vector of H into a tangent space: project it and rescale the projection to unit length.

    Args:
        basis: basis of the tangent space.
        u: vectors of H.

    Returns:
        The coefficients <u_i, u> in the basis, scaled to a vector of unit length, [b,n], and the angle in radians
        between u and its projection, [b].

    Raises:
        BadInput: u is orthogonal to the tangent space, up to rounding.
    """
    u = u.to(basis.u.dtype)
    inside = basis.coefficients(u)
    outside = torch.linalg.vector_norm(u - basis.combine(inside), dim=1)
    size = torch.linalg.vector_norm(inside, dim=1)
    if bool((size <= torch.finfo(u.dtype).eps * torch.linalg.vector_norm(u, dim=1) * u.shape[1]).any()):
        raise BadInput(f"The direction is orthogonal to the tangent space of {basis.n} directions: use more of them.")
    return inside / size[:, None], torch.atan2(outside, size)


def pull_back(basis: Basis, coefficients: Float[Tensor, "b n"]) -> Float[Tensor, "b c h w"]:
    """Compute the unit vector of X that J maps to a multiple of sum_i c_i u_i: sum_i (c_i / lambda_i) v_i, scaled."""
    v = basis.preimage(coefficients)
    return v / torch.linalg.vector_norm(v, dim=(1, 2, 3), keepdim=True)


def shoot(
    f: BottleneckMap,
    x: Float[Tensor, "b c h w"],
    u: Float[Tensor, "b d"],
    *,
    gamma: float,
    steps: int,
    n: int,
    basis: Basis | None = None,
) -> Iterator[Shot]:
    """Yield `steps` steps of length |gamma| that start at x, along a direction of H that is transported between steps.

    Args:
        f: the map from x_t to the bottleneck.
        x: latents at f.t.
        u: direction in H: a local one, `basis.u[:, i]`, or a global one, which is projected first.
        gamma: step length in X; a negative value reverses the direction.
        steps: number of steps, at least 1.
        n: dimension of the tangent spaces.
        basis: the tangent basis at x, if it is already computed.

    Raises:
        BadInput: an argument is out of range; raised before any evaluation.
    """
    check_shots(gamma, steps)
    check_n(f, x, n)
    return _shots(f, x, u, gamma, steps, n, basis)


def shoot_straight(
    f: BottleneckMap, x: Float[Tensor, "b c h w"], v: Float[Tensor, "b c h w"], *, gamma: float, steps: int
) -> Iterator[Shot]:
    """Yield steps along a fixed direction of X, without transport; used for random directions as a baseline.

    The arguments are those of `shoot`, with the direction v in X instead of u in H.

    Raises:
        BadInput: an argument is out of range; raised before any evaluation.
    """
    check_shots(gamma, steps)
    return _straight(f, x, v / torch.linalg.vector_norm(v, dim=(1, 2, 3), keepdim=True), gamma, steps)


def check_shots(gamma: float, steps: int) -> None:
    """Check the step length and the number of steps. Raises BadInput."""
    if isinstance(gamma, bool) or not isinstance(gamma, int | float) or not abs(gamma) < float("inf"):
        raise BadInput(f"gamma must be a finite number, not {gamma!r}.")
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise BadInput(f"There must be at least 1 step, not {steps!r}.")


def _shots(
    f: BottleneckMap, x: Tensor, u: Tensor, gamma: float, steps: int, n: int, basis: Basis | None
) -> Iterator[Shot]:
    here = local_basis(f, x, n) if basis is None else basis
    for left in reversed(range(steps)):
        coefficients, angle = transport(here, u)
        u, v = here.combine(coefficients), pull_back(here, coefficients)
        # J maps the preimage to the unit vector u, so |J v| of the unit vector v is 1 / |preimage|
        stretch = 1 / torch.linalg.vector_norm(here.preimage(coefficients), dim=(1, 2, 3))
        x, h = x + gamma * v, here.h
        here = local_basis(f, x, n) if left else here
        yield Shot(x, v, u, angle, _distance(here.h if left else f(x), h), abs(gamma) * stretch)


def _straight(f: BottleneckMap, x: Tensor, v: Tensor, gamma: float, steps: int) -> Iterator[Shot]:
    image, h = _image(f, x, v)
    u = None
    for left in reversed(range(steps)):
        stretch = torch.linalg.vector_norm(image, dim=1)
        turned = image / stretch[:, None]
        angle = torch.zeros_like(stretch) if u is None else (turned * u).sum(dim=1).clamp(-1, 1).arccos()
        x, u, before = x + gamma * v, turned, h
        image, h = _image(f, x, v) if left else (image, f(x))
        yield Shot(x, v, u, angle, _distance(h, before), abs(gamma) * stretch)


def _image(f: BottleneckMap, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """J v of one vector at every sample, and f(x), from one evaluation."""
    parts = []
    for index, part in f.split(len(x)):
        jacobian = part.at(x[index])
        parts.append((jacobian.jvp(v[index, None])[:, 0], jacobian.h))
    images, h = zip(*parts, strict=True)
    return torch.cat(images), torch.cat(h)


def _distance(h: Tensor, other: Tensor) -> Tensor:
    return torch.linalg.vector_norm(h - other, dim=1)
