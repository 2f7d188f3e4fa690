"""Precision of a model."""

import torch

from sfumato.models.names import PRECISIONS, check_precision

DTYPES: dict[str, torch.dtype] = {name: getattr(torch, kind) for name, kind in PRECISIONS.items()}


def pick_dtype(dtype: str | torch.dtype | None = None) -> torch.dtype:
    """The precision of this name: "fp32", "bf16" or "fp16"; "auto" and None mean fp32 on every device.

    Half precision works on the CPU too, but fp16 is about twenty times slower there than fp32.

    Raises:
        BadInput: there is no such precision.
    """
    if isinstance(dtype, torch.dtype) and dtype in DTYPES.values():
        return dtype
    check_precision(str(dtype or "auto"))
    return DTYPES[str(dtype or "auto")]
