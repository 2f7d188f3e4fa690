"""Context manager in which a network with weights in half precision computes in float32.

Derivatives must be computed in float32. Rounding the outputs of the layers to the 8 or 11 significant bits of bfloat16
or float16 changes J by more than its smaller singular values, and additional products do not reduce this error. The
weights remain in half precision and need no additional memory.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

HALF = (torch.float16, torch.bfloat16)

_Saved: TypeAlias = Tensor | tuple[Tensor, torch.Size, tuple[int, ...], int]
"""Tensor saved by autograd; instead of a float32 copy, the half-precision tensor with size, stride and offset."""


def single_precision(dtype: torch.dtype) -> AbstractContextManager[Any]:
    """Return the context manager for a network with weights of this dtype; no effect for float32 and float64."""
    return _SinglePrecision() if dtype in HALF else nullcontext()


class _SinglePrecision(TorchFunctionMode):
    """Casts the half-precision tensors and dtypes among the arguments of every torch function to float32.

    The float32 copy of a weight exists during the call only. The autograd graph saves the weight itself and casts it
    again in the backward pass, so that it keeps no float32 copies of the weights.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") == "__get__":  # an attribute of a tensor: only `dtype` is changed
            found = func(*args)
            return _wide(found) if isinstance(found, torch.dtype) else found
        if not torch.is_grad_enabled():
            return func(*tree_map(_wide, args), **tree_map(_wide, kwargs or {}))
        # storage address of a float32 copy -> the half-precision tensor that it was made from
        copied: dict[int, Tensor] = {}

        def copy(each: Any) -> Any:
            wide = _wide(each)
            if isinstance(each, Tensor) and wide is not each and not each.requires_grad:
                copied[wide.untyped_storage().data_ptr()] = each
            return wide

        def pack(saved: Tensor) -> _Saved:
            source = copied.get(saved.untyped_storage().data_ptr())
            # the layer may save a view of the copy, such as the transposed weight
            # detached, so that an operation that saves its output does not own itself
            return saved.detach() if source is None else (source, saved.shape, saved.stride(), saved.storage_offset())

        args, kwargs = tree_map(copy, (args, kwargs or {}))
        with saved_tensors_hooks(pack, _unpack):
            return func(*args, **kwargs)


def _wide(each: Any) -> Any:
    if isinstance(each, torch.dtype):
        return torch.float32 if each in HALF else each
    return each.float() if isinstance(each, Tensor) and each.dtype in HALF else each


def _unpack(saved: _Saved) -> Tensor:
    if isinstance(saved, Tensor):
        return saved
    source, *view = saved
    return source.float().as_strided(*view)
