"""Localisation of the layer in which a NaN or infinity of the bottleneck or its Jacobian first occurs."""

from typing import Any, Protocol, runtime_checkable

import torch
import torch.autograd.forward_ad as forward_mode
from torch import Tensor, nn

from sfumato.core.noise import gaussian_batch
from sfumato.errors import NonFinite
from sfumato.geometry.forward_mode import differentiable, one_at_a_time
from sfumato.hooks import attach_hook
from sfumato.models.diffusion_model import DiffusionModel


@runtime_checkable
class Evaluated(Protocol):
    """Protocol of a function of the latents that a network computes, such as `BottleneckMap`."""

    @property
    def network(self) -> DiffusionModel:
        """The network whose encoder half and middle block are evaluated."""

    @property
    def t(self) -> int:
        """Timestep."""

    def evaluate(self, x: Tensor) -> Tensor:
        """Evaluate the function at x, differentiably in forward and reverse mode."""


def check_product(product: Tensor, name: str, f: Evaluated, x: Tensor) -> Tensor:
    """Return a product if all its values are finite.

    Args:
        product: values of f, or products with its Jacobian.
        name: name of the product in the error message.
        f: the function.
        x: latents at which the product was computed.

    Raises:
        NonFinite: a value is not finite; the message contains the timestep and the first layer whose output or
            derivative is not finite.
    """
    if bool(torch.isfinite(product).all()):
        return product
    where = "the latent x_t is not finite" if not bool(torch.isfinite(x).all()) else _first_layer(f, x.detach())
    raise NonFinite(f"Timestep {f.t}: {name} of the bottleneck contains NaN or infinity; {where}.")


def _first_layer(f: Evaluated, x: Tensor) -> str:
    """Name the first layer that is not finite at x, or whose derivative along one random tangent is not."""
    found: list[str] = []
    leaves = [(name, module) for name, module in f.network.unet.named_modules() if not list(module.children())]
    handles = [attach_hook(module, _finite_hook(name, found)) for name, module in leaves]
    try:
        with torch.no_grad(), differentiable(), one_at_a_time(), forward_mode.dual_level():
            tangent = gaussian_batch(x.shape[1:], [0] * len(x), tag="finite", device=x.device, dtype=x.dtype)
            f.evaluate(forward_mode.make_dual(x, tangent))
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else "every layer is finite, so the products overflow"


def _finite_hook(name: str, found: list[str]) -> Any:
    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        if not isinstance(output, Tensor):
            return
        primal, tangent = forward_mode.unpack_dual(output)
        if not bool(torch.isfinite(primal).all()):
            found.append(f"the first layer where it appears is {name}")
        elif tangent is not None and not bool(torch.isfinite(tangent).all()):
            found.append(f"the first layer whose derivative is not finite is {name}")

    return hook
