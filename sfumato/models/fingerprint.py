"""Fingerprint of the weights and the schedule of a model."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sfumato.core.schedule import Schedule


def fingerprint(networks: Mapping[str, nn.Module], schedule: Schedule) -> str:
    """SHA-256 over the names, types, shapes and values of all weights, and the schedule, in hexadecimal.

    The same weights in another precision have another fingerprint.
    """
    digest = hashlib.sha256()
    for part in sorted(networks):
        for name, weight in sorted(networks[part].state_dict().items()):
            add_tensor(digest, f"{part}.{name}", weight)
    add_tensor(digest, f"schedule {schedule.prediction_type} {schedule.final_alpha_cumprod}", schedule.alphas_cumprod)
    return digest.hexdigest()


def revision(networks: Mapping[str, nn.Module]) -> tuple[tuple[int, int, int, torch.dtype], ...]:
    """A value that changes when a weight is replaced, moved or modified in place, to detect a stale fingerprint.

    It contains id, version, data pointer and dtype of every weight. The data pointer is necessary because `Module.to`
    changes neither id nor version. Freed memory may be reused, so that a conversion to another precision and back can
    restore the value: such callers must reset the fingerprint.
    """
    weights = (weight for part in sorted(networks) for weight in networks[part].state_dict(keep_vars=True).values())
    return tuple((id(weight), weight._version, weight.data_ptr(), weight.dtype) for weight in weights)


def add_tensor(digest: "hashlib._Hash", name: str, values: Tensor) -> None:
    """Add name, dtype, shape and values of a tensor to a digest."""
    digest.update(f"{name} {values.dtype} {tuple(values.shape)}\n".encode())
    # view as bytes, because numpy has no bfloat16
    flat = values.detach().cpu().contiguous().reshape(-1)
    digest.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
