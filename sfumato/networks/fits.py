"""Check that the size of a network matches its weight files, before memory is allocated."""

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)

from sfumato.errors import BadInput
from sfumato.files import Named, printable
from sfumato.networks.places import GIVE
from sfumato.networks.weights import Weights

#: Allowed excess of the network over its weight files, which may store three projections as one tensor or omit unused
#: tensors: factor and constant, for the number of tensors and for the number of values.
TENSORS, MORE_TENSORS = 4, 64
VALUES, MORE_VALUES = 2, 1 << 24


class _Budget(threading.local):
    """Numbers of tensors and of values that the network built by this thread may still add; None for no limit."""

    left: tuple[int, int] | None = None


_BUDGET = _Budget()


def most_tensors(tensors: int) -> int:
    """Largest number of tensors of a network for the number of tensors in its weight files."""
    return TENSORS * tensors + MORE_TENSORS


def check_fits(build: Callable[[], Any], weights: Weights, folder: Named) -> Any:
    """Build a network on the meta device, and stop when it becomes too large for its weight files.

    Args:
        build: builds the network.
        weights: tensors in the weight files.
        folder: folder to name in messages.

    Returns:
        The network.

    Raises:
        BadInput: the network is too large. Other exceptions of `build` are not caught.
    """
    _BUDGET.left = most_tensors(len(weights.shapes)), VALUES * weights.values + MORE_VALUES
    try:
        with torch.device("meta"):
            return build()
    except _TooLargeError as error:
        raise BadInput(
            f"{printable(folder)} cannot be read: its settings describe a much larger network than its weights; {GIVE}."
        ) from error
    finally:
        _BUDGET.left = None


class _TooLargeError(Exception):
    """The network is too large for its weight files."""


def _subtract(module: nn.Module, name: str, tensor: torch.Tensor | None) -> None:
    if _BUDGET.left is None or tensor is None:
        return
    tensors, values = _BUDGET.left
    _BUDGET.left = tensors - 1, values - tensor.numel()
    if min(_BUDGET.left) < 0:
        raise _TooLargeError


# Registered once, because adding or removing hooks while another thread builds a network fails in that thread.
register_module_parameter_registration_hook(_subtract)
register_module_buffer_registration_hook(_subtract)
