"""Devices of networks."""

import torch

from sfumato.errors import BadInput


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
