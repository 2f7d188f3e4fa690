"""Whether a network is about as large as the weights that it is to be given, before it takes any memory."""

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

#: How much larger it may be: older files store three projections as one, and leave out what is never looked at.
TENSORS, MORE_TENSORS = 4, 64
VALUES, MORE_VALUES = 2, 1 << 24


class _Room(threading.local):
    """How many tensors and numbers the network may still have that this thread builds; None where it may have any."""

    left: tuple[int, int] | None = None


_ROOM = _Room()


def most_tensors(tensors: int) -> int:
    """How many parameters a network may have whose weight files hold so many tensors."""
    return TENSORS * tensors + MORE_TENSORS


def check_fits(build: Callable[[], Any], weights: Weights, folder: Named) -> None:
    """Build a network without memory, and stop as soon as it has more in it than the weight files can fill.

    Args:
        build: makes the network.
        weights: what the files hold.
        folder: what messages name.

    Raises:
        BadInput: it has many more. What else `build` raises comes through.
    """
    _ROOM.left = most_tensors(len(weights.shapes)), VALUES * weights.values + MORE_VALUES
    try:
        with torch.device("meta"):
            build()
    except _NoRoomError as error:
        raise BadInput(
            f"{printable(folder)} cannot be read: its settings ask for a far larger network than its weights fill; "
            f"{GIVE}."
        ) from error
    finally:
        _ROOM.left = None


class _NoRoomError(Exception):
    """The network has more in it than it may."""


def _take(module: nn.Module, name: str, tensor: torch.Tensor | None) -> None:
    if _ROOM.left is None or tensor is None:
        return
    tensors, values = _ROOM.left
    _ROOM.left = tensors - 1, values - tensor.numel()
    if min(_ROOM.left) < 0:
        raise _NoRoomError


# Once and for good: to add and remove them while another thread builds a network would be an error in that thread.
register_module_parameter_registration_hook(_take)
register_module_buffer_registration_hook(_take)
