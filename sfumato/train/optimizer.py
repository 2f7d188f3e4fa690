"""Parameter groups of AdamW, and its state as named tensors for safetensors (no pickle)."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn


def decay_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups of AdamW: weight decay for matrices and kernels, none for biases, norms and scalars."""
    trained = [p for p in module.parameters() if p.requires_grad]
    if not weight_decay:
        return [{"params": trained, "weight_decay": 0.0}]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


def names_of(optimizer: Any, module: nn.Module) -> list[str]:
    """Names of the optimizer's parameters in `module`, in the order of the optimizer's parameter ids."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    return [names[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]


def flatten(optimizer: Any, module: nn.Module) -> dict[str, Tensor]:
    """State of Adam as named tensors, such as `network.0.weight:exp_avg`."""
    names = names_of(optimizer, module)
    state = optimizer.state_dict()["state"]
    return {f"{names[i]}:{entry}": value for i, entries in state.items() for entry, value in entries.items()}


def unflatten(flat: Mapping[str, Tensor], optimizer: Any, module: nn.Module) -> dict[str, Any]:
    """Inverse of `flatten`: a state for `optimizer.load_state_dict`, with the optimizer's current parameter groups.

    Checkpoints of older versions number the parameters (`00012.exp_avg`) in the order of the parameter groups or of the
    module. The order in which all shapes match is used.

    Raises:
        ValueError: the state does not match the parameters of the optimizer.
    """
    names = names_of(optimizer, module)
    if any(":" not in key for key in flat):
        flat = _named(flat, names, module)
    shapes, parameters = _shapes(module), dict(module.named_parameters())
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in flat.items():
        name, entry = key.rsplit(":", 1)
        if name not in names or not _fits(entry, value, shapes[name]):
            raise ValueError(f"the optimizer has no parameter {name} of shape {list(value.shape)}")
        like = value if entry == "step" else torch.empty_like(parameters[name], dtype=value.dtype).copy_(value)
        state.setdefault(names.index(name), {})[entry] = like
    return {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}


def _named(flat: Mapping[str, Tensor], names: Sequence[str], module: nn.Module) -> dict[str, Tensor]:
    """Replace the numbers of the parameters by their names."""
    shapes = _shapes(module)
    in_order_of_module = [name for name, parameter in module.named_parameters() if parameter.requires_grad]
    entries = [(int(number), entry, value) for key, value in flat.items() for number, entry in [key.split(".")]]
    for order in (names, in_order_of_module):
        if all(n < len(order) and _fits(entry, value, shapes[order[n]]) for n, entry, value in entries):
            return {f"{order[n]}:{entry}": value for n, entry, value in entries}
    raise ValueError("the optimizer state does not match the parameters")


def _shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {name: parameter.shape for name, parameter in module.named_parameters()}


def _fits(entry: str, value: Tensor, shape: torch.Size) -> bool:
    """Whether an entry has the right shape: Adam's `step` is a scalar, its other entries have the parameter's shape."""
    return value.ndim == 0 if entry == "step" else value.shape == shape
