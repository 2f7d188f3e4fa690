"""A scope in which a network can be differentiated in both modes, for many vectors at once."""

import threading
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_ONE_AT_A_TIME = threading.RLock()


def differentiable() -> AbstractContextManager[Any]:
    """Exchange, within a `with` block and in its thread alone, what has no derivative in forward mode or over vectors.

    Fused attention has none in forward mode: scaled dot products are computed by their definition, whatever attention
    processors the network has. Group normalisation has one for contiguous inputs alone, and attention blocks of
    pixel-space networks hand on transposed ones. The values stay what they are, up to rounding.
    """
    return _Differentiable()


def one_at_a_time() -> AbstractContextManager[Any]:
    """Forward-mode differentiation of one thread of the process; others wait, as torch has one level for all of them.

    Evaluations, and products in reverse mode, go on meanwhile.
    """
    return _ONE_AT_A_TIME


class _Differentiable(TorchFunctionMode):
    """Not `torch.nn.attention.sdpa_kernel`, which chooses the kernels of all threads."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.scaled_dot_product_attention:
            return _attention(*args, **(kwargs or {}))
        if func is F.group_norm:
            args = (args[0].contiguous(), *args[1:])
        return func(*args, **(kwargs or {}))


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """`scaled_dot_product_attention` by its definition, which torch has under a name of its own."""
    definition = torch.ops.aten._scaled_dot_product_attention_math
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype).masked_fill(~attn_mask, -torch.inf)
    options = {"scale": scale, "enable_gqa": enable_gqa}
    return definition(query, key, value, attn_mask, dropout_p, is_causal, **options)[0]
