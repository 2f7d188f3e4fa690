"""One number for all that a model has learned."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sfumato.core.schedule import Schedule


def fingerprint(networks: Mapping[str, nn.Module], schedule: Schedule) -> str:
    """SHA-256 over the names, types, shapes and values of all weights, and the schedule, in hexadecimal.

    The same weights in another precision are other weights.
    """
    digest = hashlib.sha256()
    for part in sorted(networks):
        for name, weight in sorted(networks[part].state_dict().items()):
            add_tensor(digest, f"{part}.{name}", weight)
    add_tensor(digest, f"schedule {schedule.prediction_type} {schedule.final_alpha_cumprod}", schedule.alphas_cumprod)
    return digest.hexdigest()


def revision(networks: Mapping[str, nn.Module]) -> tuple[tuple[int, int, int, torch.dtype], ...]:
    """Changes when a weight is replaced, moved or written in place through autograd: tells when a fingerprint is stale.

    `Module.to` gives a weight other memory and leaves the object and its version as they were. Memory that was freed
    may be given again, so whoever converts there and back must forget the fingerprint himself.
    """
    weights = (weight for part in sorted(networks) for weight in networks[part].state_dict(keep_vars=True).values())
    return tuple((id(weight), weight._version, weight.data_ptr(), weight.dtype) for weight in weights)


def add_tensor(digest: "hashlib._Hash", name: str, values: Tensor) -> None:
    """Name, type, shape and values of a tensor into a digest."""
    digest.update(f"{name} {values.dtype} {tuple(values.shape)}\n".encode())
    # viewed as bytes, because numpy knows no bfloat16
    flat = values.detach().cpu().contiguous().reshape(-1)
    digest.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
