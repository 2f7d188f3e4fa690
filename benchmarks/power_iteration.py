"""Reference algorithms for a local basis: the dense Jacobian, and power iteration, the algorithm of the public code.

Both are implemented in the simplest way. Every Jacobian product consists of a forward pass through the encoder half and
a pass for the derivative, one vector at a time; power iteration uses exactly n vectors, orthogonalised after each pair
of products. Per iteration this implementation takes 2 n evaluations, n tangents and n gradients. The public code shares
one evaluation among the gradients: n + 1 evaluations, n of which carry a tangent, and n gradients. The public code
always runs its maximum of 50 iterations, because its convergence test compares vectors including their signs.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import jvp

from sfumato.core.noise import gaussian
from sfumato.geometry import BottleneckMap
from sfumato.geometry.forward_mode import differentiable, one_at_a_time


@dataclass
class Found:
    """Singular triplets v [n,d_x], values [n], u [n,d_h] of one sample, and the number of passes of one row."""

    v: Tensor
    values: Tensor
    u: Tensor
    passes: int


def dense(f: BottleneckMap, x: Tensor) -> Found:
    """All singular triplets of the Jacobian at x [1,c,h,w], computed row by row."""
    jacobian = f.at(x)
    unit = torch.eye(jacobian.d_h, dtype=x.dtype, device=x.device)
    rows = torch.cat([jacobian.vjp(row[None, None])[0] for row in unit]).flatten(1)
    left, values, right = torch.linalg.svd(rows.double(), full_matrices=False)
    return Found(right, values, left.mT, 1 + jacobian.d_h)


def power_iteration(
    f: BottleneckMap, x: Tensor, n: int, good: Callable[[Tensor], bool], most: int, seed: int = 0
) -> Found:
    """Power iteration of n vectors without oversampling, until `good(v)` is true or for `most` iterations."""
    v = torch.linalg.qr(gaussian((x[0].numel(), n), seed, device=x.device, dtype=torch.float64))[0].mT
    u, values, passes = v.new_zeros(n, 0), v.new_zeros(n), 0
    for _ in range(most):
        images = torch.cat([_image(f, x, each.to(x).reshape(x.shape)) for each in v]).double()
        back = torch.cat([f.at(x).vjp(each.to(x)[None, None])[0] for each in images]).flatten(1).double()
        passes += 4 * n
        _, squares, v = torch.linalg.svd(back, full_matrices=False)
        values, u = squares.sqrt(), images
        if good(v):
            break
    return Found(v, values, u / torch.linalg.vector_norm(u, dim=1, keepdim=True), passes)


@torch.no_grad()
def _image(f: BottleneckMap, x: Tensor, v: Tensor) -> Tensor:
    """J v, with its own evaluation at x."""
    with differentiable(), one_at_a_time():
        return jvp(f.evaluate, (x,), (v,))[1]
