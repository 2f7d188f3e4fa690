"""Finding the tensor that is not finite."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn


def first_not_finite(tensors: Iterable[tuple[str, Tensor | None]]) -> str | None:
    """The name of the first floating-point tensor that holds NaN or infinity, or None."""
    for name, tensor in tensors:
        if tensor is not None and tensor.is_floating_point() and not torch.isfinite(tensor).all():
            return name
    return None


def blame_for_loss(batch: Mapping[str, Tensor], module: nn.Module) -> str:
    """Where a loss that is not finite comes from: the batch, the weights or the arithmetic between them."""
    if name := first_not_finite(batch.items()):
        return f"the batch's '{name}' is not finite"
    if name := first_not_finite(module.named_parameters()):
        return f"the weight '{name}' is not finite"
    return "batch and weights are finite, so it overflowed in between: lower optim.lr"


def blame_for_gradient(module: nn.Module) -> str:
    """Which weight's gradient is not finite."""
    name = first_not_finite((name, weight.grad) for name, weight in module.named_parameters())
    return f"the gradient of '{name}' is not finite" if name else "the sum of the squared gradients overflowed"
