"""Devices of networks; their names are checked without importing torch."""

import re
from typing import TYPE_CHECKING

from sfumato.errors import BadInput

if TYPE_CHECKING:
    import torch

#: torch refuses leading zeros, and wraps around indices above 127.
_NAME = re.compile("auto|(cpu|cuda|mps)(:([0-9]|[1-9][0-9]))?", re.ASCII)


def check_device_name(device: str) -> None:
    """Raise BadInput for an unknown name of a device; whether this machine has the device is not checked."""
    if not _NAME.fullmatch(device):
        raise BadInput(f'There is no device "{device}"; use auto, cpu, cuda, cuda:1 or mps.')


def check_offload(device: str) -> None:
    """Raise BadInput for offloading on the CPU, which has no memory of its own.

    Args:
        device: name of the device.
    """
    if device.partition(":")[0] == "cpu":
        raise BadInput("Offloading saves memory of a GPU: leave it out, or give the device cuda or mps.")


def pick_device(device: "str | torch.device | None" = None) -> "torch.device":
    """The device of this name; "auto" and None mean CUDA if available, otherwise the CPU.

    Raises:
        BadInput: this machine has no such device.
    """
    import torch

    if device is None or device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if isinstance(device, str):
        check_device_name(device)
    chosen = torch.device(device)
    present = {
        "cpu": 1,
        "cuda": torch.cuda.device_count(),
        "mps": int(torch.backends.mps.is_available()),
    }
    if (chosen.index or 0) >= present.get(chosen.type, 0):
        raise BadInput(f'The device "{device}" is not on this machine; use auto or cpu.')
    return chosen
