"""Context managers for batched differentiation of a network in forward and reverse mode."""

import threading
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_ONE_AT_A_TIME = threading.RLock()


def differentiable() -> AbstractContextManager[Any]:
    """Replace operations that forward mode or `vmap` cannot differentiate, within a `with` block and its thread only.

    Fused attention has no forward-mode derivative, so scaled dot-product attention is computed by its definition, for
    all attention processors. Group normalisation has a forward-mode derivative for contiguous inputs only, but the
    attention blocks of pixel-space networks pass transposed inputs, which are therefore made contiguous. The values
    change by rounding errors only.
    """
    return _Differentiable()


def one_at_a_time() -> AbstractContextManager[Any]:
    """Return a lock for forward-mode differentiation, as torch supports a single forward-mode level per process.

    Evaluations and reverse-mode products of other threads are not blocked.
    """
    return _ONE_AT_A_TIME


class _Differentiable(TorchFunctionMode):
    """Implementation of `differentiable`; `torch.nn.attention.sdpa_kernel` would change the kernels of all threads."""

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
    """`scaled_dot_product_attention` by its definition, softmax(Q K^T / sqrt(d)) V."""
    definition = torch.ops.aten._scaled_dot_product_attention_math
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype).masked_fill(~attn_mask, -torch.inf)
    options = {"scale": scale, "enable_gqa": enable_gqa}
    return definition(query, key, value, attn_mask, dropout_p, is_causal, **options)[0]
