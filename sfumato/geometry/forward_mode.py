"""A scope in which a network can be differentiated in both modes, for many vectors at once."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel


@contextmanager
def differentiable(network: nn.Module) -> Iterator[None]:
    """Exchange, within a `with` block, what has no derivative in forward mode or over a batch of vectors.

    Fused attention has none in forward mode: scaled dot products are computed by their definition, whatever attention
    processors the network has. Group normalisation has one for contiguous inputs alone, and attention blocks of
    pixel-space networks hand on transposed ones. The values stay what they are, up to rounding.
    """
    with ExitStack() as scope:
        scope.enter_context(sdpa_kernel(SDPBackend.MATH))
        for module in network.modules():
            if isinstance(module, nn.GroupNorm):
                scope.callback(module.register_forward_pre_hook(_contiguous).remove)
        yield


def _contiguous(module: nn.Module, inputs: tuple[Tensor, ...]) -> Any:
    return tuple(each.contiguous() for each in inputs)
