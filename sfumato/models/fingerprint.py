"""Fingerprint of the weights and the schedule of a model."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

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
        for state in _adapters(networks[part]):
            digest.update(f"{part} {state}\n".encode())
    add_tensor(digest, f"schedule {schedule.prediction_type} {schedule.final_alpha_cumprod}", schedule.alphas_cumprod)
    return digest.hexdigest()


def revision(networks: Mapping[str, nn.Module], *, moving: bool = False) -> tuple[Any, ...]:
    """A value that changes when a weight is replaced, moved or modified in place, to detect a stale fingerprint.

    It contains id, version, data pointer and dtype of every weight, and which LoRAs of PEFT act. The data pointer is
    necessary because `Module.to` changes neither id nor version. Freed memory may be reused, so that a conversion to
    another precision and back can restore the value: such callers must reset the fingerprint.

    Args:
        networks: the networks by name.
        moving: leave the data pointers out, because the networks are moved between devices (`sfumato.models.offload`).
    """
    weights = (weight for part in sorted(networks) for weight in networks[part].state_dict(keep_vars=True).values())
    states = (state for part in sorted(networks) for state in _adapters(networks[part]))
    place = (lambda weight: 0) if moving else Tensor.data_ptr
    return (*((id(weight), weight._version, place(weight), weight.dtype) for weight in weights), *states)


def _adapters(network: nn.Module) -> Iterator[str]:
    """Which LoRAs of every layer act, and how strongly: what PEFT stores in addition to the weights."""
    for name, layer in network.named_modules():
        if hasattr(layer, "base_layer"):
            acting = [] if layer.disable_adapters else sorted(layer.active_adapters)
            yield f"{name} {[(each, layer.scaling.get(each)) for each in acting]} {sorted(layer.merged_adapters)}"


def add_tensor(digest: "hashlib._Hash", name: str, values: Tensor) -> None:
    """Add name, dtype, shape and values of a tensor to a digest."""
    digest.update(f"{name} {values.dtype} {tuple(values.shape)}\n".encode())
    # view as bytes, because numpy has no bfloat16
    flat = values.detach().cpu().contiguous().reshape(-1)
    digest.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
