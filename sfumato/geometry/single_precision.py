"""A scope in which a network whose weights are in half precision computes in float32.

Derivatives need it: rounding what a layer puts out to 8 or 11 bits moves J by more than its smaller singular values,
and no number of products averages that away. The weights stay as they are, and so does the memory that they take.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

HALF = (torch.float16, torch.bfloat16)

Kept: TypeAlias = Tensor | tuple[Tensor, torch.Size, tuple[int, ...], int]
"""What a graph keeps: a tensor; or one in half precision and the view of its copy (size, stride, offset)."""


def single_precision(dtype: torch.dtype) -> AbstractContextManager[Any]:
    """The scope for a network of that precision; float32 and float64 stay what they are."""
    return _SinglePrecision() if dtype in HALF else nullcontext()


class _SinglePrecision(TorchFunctionMode):
    """Every function gets float32 in place of half precision: tensors, and the precisions that it is asked for.

    The float32 copy of a weight lives as long as the one function that uses it. A graph keeps the weight itself, and
    makes the copy again on the way back.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") == "__get__":  # an attribute of a tensor, which needs no copy
            found = func(*args)
            return _wide(found) if isinstance(found, torch.dtype) else found
        if not torch.is_grad_enabled():
            return func(*tree_map(_wide, args), **tree_map(_wide, kwargs or {}))
        copied: dict[int, Tensor] = {}

        def copy(each: Any) -> Any:
            wide = _wide(each)
            if isinstance(each, Tensor) and wide is not each and not each.requires_grad:
                copied[wide.untyped_storage().data_ptr()] = each
            return wide

        def pack(saved: Tensor) -> Kept:
            source = copied.get(saved.untyped_storage().data_ptr())
            return saved if source is None else (source, saved.shape, saved.stride(), saved.storage_offset())

        args, kwargs = tree_map(copy, (args, kwargs or {}))
        with saved_tensors_hooks(pack, _unpack):
            return func(*args, **kwargs)


def _wide(each: Any) -> Any:
    if isinstance(each, torch.dtype):
        return torch.float32 if each in HALF else each
    return each.float() if isinstance(each, Tensor) and each.dtype in HALF else each


def _unpack(kept: Kept) -> Tensor:
    if isinstance(kept, Tensor):
        return kept
    source, *view = kept
    return source.float().as_strided(*view)
