"""Device and precision of a model."""

import torch

from sfumato.errors import BadInput
from sfumato.models.names import PRECISIONS, check_precision

DTYPES: dict[str, torch.dtype] = {name: getattr(torch, kind) for name, kind in PRECISIONS.items()}


def pick_device(device: str | torch.device | None = None) -> torch.device:
    """The device of this name; "auto" and None mean CUDA if available, otherwise the CPU.

    Raises:
        BadInput: this machine has no such device.
    """
    if device is None or device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise BadInput(f'There is no device "{device}"; use auto, cpu, cuda, cuda:1 or mps.') from None
    present = {
        "cpu": 1,
        "cuda": torch.cuda.device_count(),
        "mps": int(torch.backends.mps.is_available()),
    }
    if (chosen.index or 0) >= present.get(chosen.type, 0):
        raise BadInput(f'The device "{device}" is not on this machine; use auto or cpu.')
    return chosen


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
