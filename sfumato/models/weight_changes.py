"""Evaluate a network with changed weights of linear layers, without changing its parameters."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.core.condition import Condition
from sfumato.errors import BadInput
from sfumato.hooks import attach_hook
from sfumato.models.modules import named


@contextmanager
def changed_weights(network: nn.Module, condition: Condition | None) -> Iterator[None]:
    """Add the weight changes of a condition to the network in a `with` block, in the current thread only.

    Every changed layer computes W x + b + dW x. Taps of the layer receive the changed output. dW is converted to the
    precision of x, and gradients flow to it.

    Args:
        network: the network.
        condition: the condition of the evaluation, see `Condition.weight_changes`.

    Raises:
        BadInput: the network has no layer of that name, or gradient checkpointing is enabled: it would compute the
            blocks again without the changes.
    """
    changes = condition.weight_changes if condition is not None else {}
    if changes and torch.is_grad_enabled() and getattr(network, "is_gradient_checkpointing", False):
        raise BadInput(
            "This condition changes weights of the network (PARASOL), which does not work with gradient checkpointing: "
            "call unet.disable_gradient_checkpointing()."
        )
    with ExitStack() as hooks:
        for name, layer in named(network, tuple(changes)) if changes else ():
            hooks.callback(attach_hook(layer, _adding(changes[name]), first=True).remove)
        yield


def _adding(change: Tensor) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    def hook(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        return output + F.linear(inputs[0], change.to(inputs[0]))

    return hook
