"""Gradient checkpointing and hooks: what a block computes from a replaced output is kept, not computed again.

Gradient checkpointing (torch.utils.checkpoint, not reentrant) does not keep the tensors that a block of the network
saves for the backward pass. It runs the block again when they are needed, without the hooks of the forward pass: these
have been removed by then, and on CUDA the backward pass runs in another thread. If a hook replaces an output in a
block, all tensors that the block saves afterwards are therefore kept. Those that it saved before do not depend on the
replacement; they are computed again. Tensors that a hook itself saves are always kept.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from sfumato.hooks import attach_hook


class Checkpoints:
    """The checkpointed blocks around modules of a network that have hooks.

    Args:
        network: the network; nothing is kept if its gradient checkpointing is off.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._kept: dict[str, ExitStack] = {}

    def hooks(self, names: Iterable[str]) -> Iterator[RemovableHandle]:
        """Attach hooks that end the keeping where a block ends.

        Args:
            names: full names of the modules with hooks that call `hooked`, which must be attached before.
        """
        blocks: dict[str, ExitStack] = {}
        for name in names:
            if block := block_around(self._network, name):
                self._kept[name] = blocks.setdefault(block, ExitStack())
        for block, kept in blocks.items():
            yield attach_hook(self._network.get_submodule(block), _ending(kept))

    @contextmanager
    def hooked(self, name: str) -> Iterator[Callable[[], None]]:
        """Run a hook of a module in a `with` block, and keep the tensors that it saves.

        Args:
            name: full name of the module.

        Yields:
            A function to call if the hook replaces the output: the block then keeps all tensors until it ends.
        """
        block = self._kept.get(name) if torch.is_grad_enabled() else None
        with ExitStack() as own:
            if block is not None:
                own.enter_context(torch.autograd.graph.saved_tensors_hooks(detached, detached))

            def replaced() -> None:
                if block is not None:
                    block.push(own.pop_all())

            yield replaced

    def close(self) -> None:
        """End the keeping in a block that was left by an exception."""
        for kept in self._kept.values():
            kept.close()


def block_around(network: nn.Module, name: str) -> str | None:
    """Return the name of the block around a module, or the module itself, that checkpointing computes again, or None.

    In diffusers, modules with the attribute `gradient_checkpointing` checkpoint the residual and transformer blocks in
    their lists of modules.
    """
    parts = name.split(".")
    for n in range(len(parts) - 1, 0, -1):
        if getattr(network.get_submodule(".".join(parts[:n])), "gradient_checkpointing", False):
            return ".".join(parts[: n + 2])
    return None


def detached(saved: Tensor) -> Tensor:
    """Return a saved tensor without its graph (pack and unpack hook of `torch.autograd.graph.saved_tensors_hooks`).

    An operation that saves its output, such as softmax, would otherwise own a tensor that owns the operation. This
    reference cycle is invisible to Python's garbage collector, so that the graph would never be freed.
    """
    return saved.detach()


def _ending(kept: ExitStack) -> Callable[[nn.Module, Any, Any], None]:
    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        kept.close()

    return hook
