"""f : X -> H, from x_t to the bottleneck of the U-Net, and the products with its Jacobian J = df/dx.

Park, Kwon, Jo, Uh: "Unsupervised Discovery of Semantic Latent Directions in Diffusion Models", arXiv 2302.12469,
section 3.1. The pullback norm of a vector v at x is ||v||_pb^2 = v^T J^T J v.

Both products run the encoder half alone and share its evaluation at x among all vectors: J V by forward-mode
differentiation, J^T U through one graph that is kept. Double backward gives J V too and was measured at 2.4 times the
time on the layout that we ship. See `forward_mode` for what the products, and nothing else, compute differently.
f and its products are in float32 where the weights are in half precision (`single_precision`).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import jvp, vmap

from sfumato.core.condition import Condition
from sfumato.errors import BadInput
from sfumato.geometry.finite import check_product
from sfumato.geometry.forward_mode import differentiable, one_at_a_time
from sfumato.geometry.passes import Passes
from sfumato.geometry.single_precision import single_precision
from sfumato.models.diffusion_model import DiffusionModel

Pool: TypeAlias = Literal["sum"] | None
"""What becomes of the positions of the bottleneck: summed (the paper's H), or kept."""

CHUNK = 16
"""Rows (samples times vectors) that go through the encoder half together by default: the fastest on a CPU."""


@dataclass(frozen=True, eq=False)
class BottleneckMap:
    """h = f(x, t, c).

    Attributes:
        network: its encoder half and middle block are f.
        t: timestep.
        condition: one row, or one per sample; None for a network without text.
        pool: "sum" over the positions of the bottleneck, or None for all of it.
        chunk: most rows that go through the encoder half together.
        passes: what has been spent so far.

    Raises:
        BadInput: a timestep, pooling or chunk that cannot be.
    """

    network: DiffusionModel
    t: int
    condition: Condition | None = None
    pool: Pool = "sum"
    chunk: int = CHUNK
    passes: Passes = field(default_factory=Passes)

    def __post_init__(self) -> None:
        if isinstance(self.t, bool) or not isinstance(self.t, int) or not 0 <= self.t < len(self.network.schedule):
            raise BadInput(f"The timestep must be between 0 and {len(self.network.schedule) - 1}, not {self.t!r}.")
        if isinstance(self.chunk, bool) or not isinstance(self.chunk, int) or self.chunk < 1:
            raise BadInput(f"chunk must be an integer of at least 1, not {self.chunk!r}.")
        if self.pool not in ("sum", None):
            raise BadInput(f'pool must be "sum" or None, not {self.pool!r}.')

    def h_shape(self, height: int, width: int) -> tuple[int, ...]:
        """Shape of one h for latents of that height and width: (d,) or (d, h, w)."""
        channels = int(self.network.unet.config.block_out_channels[-1])
        grid = self.network.latent_multiple
        return (channels,) if self.pool else (channels, height // grid, width // grid)

    def rows(self, index: list[int]) -> "BottleneckMap":
        """The same map for other rows of the condition; what is spent is added to the same account."""
        if self.condition is None or len(self.condition) == 1:
            return self
        return BottleneckMap(self.network, self.t, self.condition[index], self.pool, self.chunk, self.passes)

    def split(self, samples: int, together: int | None = None) -> Iterator[tuple[list[int], "BottleneckMap"]]:
        """Indices of samples that go through the encoder half together (`chunk` by default), each with its map."""
        size = together or self.chunk
        for first in range(0, samples, size):
            index = list(range(first, min(first + size, samples)))
            yield index, self.rows(index)

    @torch.no_grad()
    def __call__(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """h of every sample, flattened, at most `chunk` rows at a time.

        Raises:
            NonFinite: h holds NaN or infinity; names the layer.
        """
        parts = []
        for index, f in self.split(len(x)):
            parts.append(check_product(f.evaluate(x[index]), "h", f, x[index]))
        self.passes.spend(forward=len(x))
        return torch.cat(parts)

    def at(self, x: Float[Tensor, "b c h w"]) -> "Jacobian":
        """J at every sample. Raises BadInput for more samples than `chunk`."""
        if not 1 <= len(x) <= self.chunk:
            raise BadInput(f"There must be between 1 and chunk = {self.chunk} samples at a time, not {len(x)}.")
        return Jacobian(self, x)

    def evaluate(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """h with gradients, if they are enabled, and not counted; in float32 at least."""
        condition = self.condition
        if condition is not None and len(condition) == 1:
            condition = condition.repeat(len(x))
        with single_precision(self.network.dtype):
            h = self.network.bottleneck(x, self.t, condition)
        return h.sum(dim=(2, 3)) if self.pool else h.flatten(1)


class Jacobian:
    """J at x, one matrix per sample, known by its products.

    Attributes:
        f: the map.
        x: the latents, [b,c,h,w].
        h: f(x), [b,d]; evaluated, with the graph for J^T u, when it is first asked for: J v does without.

    Raises:
        NonFinite: f(x) or a product holds NaN or infinity; names the layer.
    """

    def __init__(self, f: BottleneckMap, x: Float[Tensor, "b c h w"]) -> None:
        self.f = f
        self.x = x.detach().contiguous().requires_grad_()

    @cached_property
    def _graph(self) -> Tensor:
        with torch.enable_grad(), differentiable():
            graph = self.f.evaluate(self.x)
        self.f.passes.spend(forward=len(self.x))
        check_product(graph.detach(), "h", self.f, self.x)
        return graph

    @property
    def h(self) -> Float[Tensor, "b d"]:
        """f(x)."""
        return self._graph.detach()

    @property
    def d_x(self) -> int:
        """Dimension of X."""
        return self.x[0].numel()

    @property
    def d_h(self) -> int:
        """Dimension of H."""
        return self.h.shape[1]

    def jvp(self, v: Float[Tensor, "b n c h w"]) -> Float[Tensor, "b n d"]:
        """J v for n vectors at every sample."""
        self._check(v, self.x[0].shape)

        def tangent(part: Tensor) -> Tensor:
            return jvp(self.f.evaluate, (self.x.detach(),), (part,))[1]

        products = []
        with torch.no_grad(), differentiable():
            for part in v.to(self.x.dtype).transpose(0, 1).split(self._together):
                with one_at_a_time():
                    products.append(vmap(tangent)(part.contiguous()))
                self.f.passes.spend(forward=len(self.x))
        self.f.passes.spend(jvp=v.shape[0] * v.shape[1])
        return check_product(torch.cat(products).transpose(0, 1), "J v", self.f, self.x)

    def vjp(self, u: Float[Tensor, "b n d"]) -> Float[Tensor, "b n c h w"]:
        """J^T u for n vectors at every sample."""
        self._check(u, self.h[0].shape)
        products = []
        for part in u.to(self.h.dtype).transpose(0, 1).split(self._together):
            products += torch.autograd.grad(
                self._graph, self.x, part.contiguous(), retain_graph=True, is_grads_batched=True
            )
        self.f.passes.spend(vjp=u.shape[0] * u.shape[1])
        return check_product(torch.cat(products).transpose(0, 1), "J^T u", self.f, self.x)

    @property
    def _together(self) -> int:
        """Vectors per sample that fit into a chunk."""
        return max(1, self.f.chunk // len(self.x))

    def _check(self, vectors: Tensor, shape: Any) -> None:
        if vectors.ndim != 2 + len(shape) or len(vectors) != len(self.x) or vectors.shape[2:] != shape:
            wanted = [len(self.x), "n", *shape]
            raise BadInput(f"The vectors must have the shape {wanted}, not {list(vectors.shape)}.")


def pullback_norm(f: BottleneckMap, x: Float[Tensor, "b c h w"], v: Float[Tensor, "b n c h w"]) -> Float[Tensor, "b n"]:
    """||v||_pb = |J v| of n vectors at every sample (the root of the pullback metric)."""
    images = [part.at(x[index]).jvp(v[index]) for index, part in f.split(len(x))]
    return torch.linalg.vector_norm(torch.cat(images), dim=-1)
