"""Evaluate a network with changed weights of linear layers, without changing its parameters."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.core.condition import Condition
from sfumato.hooks import attach_hook
from sfumato.models.checkpointing import Checkpoints
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
        BadInput: the network has no layer of that name.
    """
    changes, checkpoints = condition.weight_changes if condition is not None else {}, Checkpoints(network)
    with ExitStack() as hooks:
        for name, layer in named(network, tuple(changes)) if changes else ():
            hooks.callback(attach_hook(layer, _adding(name, changes[name], checkpoints), first=True).remove)
        hooks.callback(checkpoints.close)
        for handle in checkpoints.hooks(list(changes)):
            hooks.callback(handle.remove)
        yield


def _adding(name: str, change: Tensor, checkpoints: Checkpoints) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    def hook(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        with checkpoints.hooked(name) as replaced:
            replaced()
            return output + F.linear(inputs[0], change.to(inputs[0]))

    return hook
