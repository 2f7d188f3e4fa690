"""Keep the networks of a model in main memory, and move each to the accelerator only while it computes.

diffusers' `enable_model_cpu_offload` does this for a pipeline with hooks of accelerate and a fixed order of networks.
An edit has no fixed order, so here a network leaves the accelerator whenever any other network is needed.
"""

from collections.abc import Iterable
from typing import Any

import torch
from accelerate.hooks import CpuOffload, ModelHook, add_hook_to_module
from accelerate.utils import send_to_device
from torch import Tensor, nn

_HOME = torch.device("cpu")


class Offload(ModelHook):
    """Moves a network to the device before it computes, and the others back to main memory.

    Networks through which gradients pass stay together until the next evaluation without gradients, because the
    backward pass still needs their weights.

    An offloaded model is not thread-safe: another thread could move a network while it computes.

    Attributes:
        execution_device: device on which the networks compute; diffusers pipelines read this attribute.
    """

    no_grad = False

    def __init__(self, device: torch.device, networks: Iterable[nn.Module]) -> None:
        self.execution_device = device
        self._networks = list(networks)
        self._graph: list[nn.Module] = []

    def attach(self) -> None:
        """Move all networks to main memory and put the hook on them, in place of others of accelerate."""
        for network in self._networks:
            add_hook_to_module(network, self)

    def init_hook(self, module: nn.Module) -> nn.Module:
        """Called when the hook is attached."""
        return nn.Module.to(module, _HOME)

    def pre_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """Called before a forward pass, and without arguments before `encode` and `decode` of an autoencoder."""
        inputs = [*args, *kwargs.values()]
        graph = torch.is_grad_enabled() and (not inputs or any(map(_requires_grad, inputs)))
        self._graph = [*self._graph, module] if graph else []
        for other in self._networks:
            if not any(other is each for each in (*self._graph, module)):
                nn.Module.to(other, _HOME)
        nn.Module.to(module, self.execution_device)
        return send_to_device(args, self.execution_device), send_to_device(kwargs, self.execution_device)


def _requires_grad(value: Any) -> bool:
    return isinstance(value, Tensor) and value.requires_grad


def offload(networks: Iterable[nn.Module], device: torch.device) -> None:
    """Offload networks that compute on `device`."""
    Offload(device, networks).attach()


def computes_on(network: nn.Module) -> torch.device:
    """The device of a network; for an offloaded network, the device on which it computes."""
    hook = getattr(network, "_hf_hook", None)
    if isinstance(hook, Offload | CpuOffload):
        return torch.device(hook.execution_device)
    return next(network.parameters()).device


def is_offloaded(network: nn.Module) -> bool:
    """Whether a network is offloaded, by this module or by diffusers' `enable_model_cpu_offload`."""
    return isinstance(getattr(network, "_hf_hook", None), Offload | CpuOffload)
