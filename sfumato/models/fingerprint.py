"""Fingerprint of the weights and the schedule of a model."""

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
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


class FingerprintCache:
    """Thread-safe cache of the fingerprint of a model, computed once per revision of its weights."""

    def __init__(self) -> None:
        self._known: tuple[Any, str] | None = None
        self._lock = threading.Lock()

    def get(self, now: Callable[[], Any], compute: Callable[[], str]) -> str:
        """The cached fingerprint, or a new one if there is none for the present revision.

        Args:
            now: the present revision, see `revision`.
            compute: the fingerprint of the present weights.
        """
        with self._lock:
            present = now()
            if self._known is None or self._known[0] != present:
                self._known = (present, compute())
            return self._known[1]

    def fill_soon(self, get: Callable[[], str]) -> None:
        """Call `get` in another thread if nothing is cached: hashing takes seconds for large models."""

        def quietly() -> None:
            with suppress(Exception):  # raised again where the result is needed
                get()

        if self._known is None:
            threading.Thread(target=quietly, name="fingerprint", daemon=True).start()

    def clear(self) -> None:
        """Remove the cached fingerprint."""
        self._known = None


def revision(networks: Mapping[str, nn.Module], *, moving: bool = False) -> tuple[Any, ...]:
    """A value that changes when a weight is replaced, moved or modified in place, to detect a stale fingerprint.

    It contains id, version, data pointer and dtype of every weight, and the active PEFT LoRAs. The data pointer is
    necessary because `Module.to` changes neither id nor version. Freed memory may be reused, so a conversion to another
    precision and back can give the same value again: code that converts must clear the fingerprint.

    Args:
        networks: the networks by name.
        moving: leave the data pointers out, because the networks are moved between devices (`sfumato.models.offload`).
    """
    layers = [layer for part in sorted(networks) for layer in _layers(networks[part])]
    weights = _weights(layers)
    places = () if moving else map(Tensor.data_ptr, weights)
    adapters = (_acting(layer) for layer in layers if "base_layer" in layer._modules)
    versions = ((weight._version, weight.dtype) for weight in weights)
    return (*map(id, weights), *versions, *places, *adapters)


def _layers(network: nn.Module) -> list[nn.Module]:
    """The network and all its submodules, as `Module.modules`, but iterative, which is faster."""
    layers = [network]
    for layer in layers:  # grows
        layers += [each for each in layer._modules.values() if each is not None]
    return layers


def _weights(layers: Sequence[nn.Module]) -> list[Tensor]:
    """Parameters and persistent buffers."""
    weights = [weight for layer in layers for weight in layer._parameters.values() if weight is not None]
    for layer in layers:
        temporary = layer._non_persistent_buffers_set
        weights += [each for name, each in layer._buffers.items() if each is not None and name not in temporary]
    return weights


def _adapters(network: nn.Module) -> Iterator[str]:
    """State of the PEFT LoRAs of every layer that is not part of the weights: active adapters, scales and merges."""
    for name, layer in network.named_modules():
        if "base_layer" in layer._modules:
            yield f"{name} {_acting(layer)}"


def _acting(layer: Any) -> str:
    """Active LoRAs of a layer with their scales, and the LoRAs that are merged into its weights."""
    acting = [] if layer.disable_adapters else sorted(layer.active_adapters)
    return f"{[(each, layer.scaling.get(each)) for each in acting]} {sorted(layer.merged_adapters)}"


def add_tensor(digest: "hashlib._Hash", name: str, values: Tensor) -> None:
    """Add name, dtype, shape and values of a tensor to a digest."""
    digest.update(f"{name} {values.dtype} {tuple(values.shape)}\n".encode())
    # view as bytes, because numpy has no bfloat16
    flat = values.detach().cpu().contiguous().reshape(-1)
    digest.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
