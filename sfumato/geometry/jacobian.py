"""The map f : X -> H from x_t to the bottleneck of the U-Net, and products with its Jacobian J = df/dx.

Park, Kwon, Jo, Uh: "Unsupervised Discovery of Semantic Latent Directions in Diffusion Models", arXiv 2302.12469,
section 3.1. The metric of H is Euclidean; its pullback to X is the metric J^T J, with the norm
||v||_pb^2 = v^T J^T J v at x.

Both products evaluate only the encoder half and the middle block, and share the evaluation at x among all vectors:
Jacobian-vector products (JVPs) J V use forward-mode differentiation, and vector-Jacobian products (VJPs) J^T U use one
retained graph. Double backward could also compute J V, but took 2.4 times as long on the bundled model. `forward_mode`
describes the operations that are replaced within the products. If the weights are in half precision, f and its products
are computed in float32 (`single_precision`).
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
"""Pooling over the positions of the bottleneck: "sum" (the paper's H), or None to keep all positions."""

CHUNK = 16
"""Default number of rows (samples times vectors) per pass through the encoder half; the fastest value on a CPU."""


@dataclass(frozen=True, eq=False)
class BottleneckMap:
    """The map h = f(x, t, c) from latents to the bottleneck of the U-Net.

    Attributes:
        network: the network whose encoder half and middle block compute f.
        t: timestep, an index into the network's schedule.
        condition: one row, or one per sample; None for a network without text conditioning.
        pool: "sum" over the positions of the bottleneck, or None to keep all positions.
        chunk: maximum number of rows per pass through the encoder half.
        passes: number of evaluations and products so far.

    Raises:
        BadInput: the timestep, the pooling or the chunk is out of range, or the network has no middle block, or its
            gradient checkpointing is on, which would compute blocks again without `forward_mode.differentiable`.
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
        if self.network.unet.mid_block is None:
            raise BadInput("This network has no middle block: load another model.")
        if self.network.unet.is_gradient_checkpointing:
            raise BadInput(
                "The Jacobian of the bottleneck (pullback) cannot be computed with gradient checkpointing: call "
                "unet.disable_gradient_checkpointing()."
            )
        if self.pool not in ("sum", None):
            raise BadInput(f'pool must be "sum" or None, not {self.pool!r}.')

    def h_shape(self, height: int, width: int) -> tuple[int, ...]:
        """Return the shape of one h for latents of that height and width: (d,) or (d, h, w)."""
        channels = int(self.network.unet.config.block_out_channels[-1])
        grid = self.network.latent_multiple
        return (channels,) if self.pool else (channels, height // grid, width // grid)

    def rows(self, index: list[int]) -> "BottleneckMap":
        """Return the same map for these rows of the condition; both maps share the counter `passes`."""
        if self.condition is None or len(self.condition) == 1:
            return self
        return BottleneckMap(self.network, self.t, self.condition[index], self.pool, self.chunk, self.passes)

    def split(self, samples: int, together: int | None = None) -> Iterator[tuple[list[int], "BottleneckMap"]]:
        """Yield batches of sample indices (`chunk` samples by default), each with the map for its rows."""
        size = together or self.chunk
        for first in range(0, samples, size):
            index = list(range(first, min(first + size, samples)))
            yield index, self.rows(index)

    @torch.no_grad()
    def __call__(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """Evaluate h of every sample, flattened, at most `chunk` rows at a time.

        Raises:
            NonFinite: h contains NaN or infinity; the message names the layer.
        """
        parts = []
        for index, f in self.split(len(x)):
            parts.append(check_product(f.evaluate(x[index]), "h", f, x[index]))
        self.passes.spend(forward=len(x))
        return torch.cat(parts)

    def at(self, x: Float[Tensor, "b c h w"]) -> "Jacobian":
        """Return the Jacobian at every sample. Raises BadInput for more samples than `chunk`."""
        if not 1 <= len(x) <= self.chunk:
            raise BadInput(f"There must be between 1 and chunk = {self.chunk} samples at a time, not {len(x)}.")
        return Jacobian(self, x)

    def evaluate(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """Evaluate h without counting it in `passes`, in float32 or wider; differentiable if gradients are enabled."""
        condition = self.condition
        if condition is not None and len(condition) == 1:
            condition = condition.repeat(len(x))
        with single_precision(self.network.dtype):
            h = self.network.bottleneck(x, self.t, condition)
        return h.sum(dim=(2, 3)) if self.pool else h.flatten(1)


class Jacobian:
    """The Jacobian J at x, one matrix per sample, as a linear operator.

    Attributes:
        f: the map from x_t to the bottleneck.
        x: the latents, [b,c,h,w].
        h: f(x), [b,d]. Products compute it as well, so that it is evaluated on its own only if there was none before.

    Raises:
        NonFinite: f(x) or a product contains NaN or infinity; the message names the layer.
    """

    def __init__(self, f: BottleneckMap, x: Float[Tensor, "b c h w"]) -> None:
        self.f = f
        self.x = x.detach().contiguous().requires_grad_()
        self._h: Tensor | None = None

    @cached_property
    def _graph(self) -> Tensor:
        with torch.enable_grad(), differentiable():
            graph = self.f.evaluate(self.x)
        self.f.passes.spend(forward=len(self.x))
        self._h = check_product(graph.detach(), "h", self.f, self.x)
        return graph

    @property
    def h(self) -> Float[Tensor, "b d"]:
        """f(x)."""
        return self._graph.detach() if self._h is None else self._h

    @property
    def d_x(self) -> int:
        """Dimension of X."""
        return self.x[0].numel()

    @property
    def d_h(self) -> int:
        """Dimension of H."""
        return torch.Size(self.f.h_shape(*self.x.shape[-2:])).numel()

    def jvp(self, v: Float[Tensor, "b n c h w"]) -> Float[Tensor, "b n d"]:
        """Compute the Jacobian-vector products J v of n vectors at every sample."""
        self._check(v, self.x[0].shape)

        def tangent(part: Tensor) -> tuple[Tensor, Tensor]:  # f(x), and J v = d/da f(x + a v) at a = 0
            return jvp(self.f.evaluate, (self.x.detach(),), (part,))

        products = []
        with torch.no_grad(), differentiable():
            for part in v.to(self.x.dtype).transpose(0, 1).split(self._together):
                with one_at_a_time():
                    h, product = vmap(tangent)(part.contiguous())
                products.append(product)
                self._h = check_product(h[0], "h", self.f, self.x) if self._h is None else self._h
                self.f.passes.spend(forward=len(self.x))
        self.f.passes.spend(jvp=v.shape[0] * v.shape[1])
        return check_product(torch.cat(products).transpose(0, 1), "J v", self.f, self.x)

    def vjp(self, u: Float[Tensor, "b n d"]) -> Float[Tensor, "b n c h w"]:
        """Compute the vector-Jacobian products J^T u of n vectors at every sample."""
        self._check(u, self._graph[0].shape)
        products = []
        for part in u.to(self._graph.dtype).transpose(0, 1).split(self._together):
            # J^T u = d<u, f(x)>/dx, one batched backward pass per part
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
    """Compute the pullback norms ||v||_pb = |J v| = sqrt(v^T J^T J v) of n vectors at every sample."""
    images = [part.at(x[index]).jvp(v[index]) for index, part in f.split(len(x))]
    return torch.linalg.vector_norm(torch.cat(images), dim=-1)
