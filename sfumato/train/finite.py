"""Find the cause of a NaN or an infinity."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn


def first_not_finite(tensors: Iterable[tuple[str, Tensor | None]]) -> str | None:
    """Name of the first floating-point tensor that contains NaN or infinity, or None."""
    for name, tensor in tensors:
        if tensor is not None and tensor.is_floating_point() and not torch.isfinite(tensor).all():
            return name
    return None


def blame_for_loss(batch: Mapping[str, Tensor], module: nn.Module) -> str:
    """Cause of a non-finite loss: the batch, the weights, or an overflow in the forward pass."""
    if name := first_not_finite(batch.items()):
        return f"the batch's '{name}' is not finite"
    if name := first_not_finite(module.named_parameters()):
        return f"the weight '{name}' is not finite"
    return "batch and weights are finite, so the forward pass overflowed: lower optim.lr"


def blame_for_gradient(module: nn.Module) -> str:
    """Cause of a non-finite gradient norm: the gradient of one weight, or an overflow of the sum of squares."""
    name = first_not_finite((name, weight.grad) for name, weight in module.named_parameters())
    return f"the gradient of '{name}' is not finite" if name else "the sum of the squared gradients overflowed"
