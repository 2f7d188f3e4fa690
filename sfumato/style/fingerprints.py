"""Fingerprint of a descriptor encoder, which is stored in an index."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from torch import nn

from sfumato.models.fingerprint import add_tensor


def fingerprint_of(network: nn.Module, settings: Mapping[str, Any]) -> str:
    """SHA-256 over the names, shapes and values (as float32) of all weights, and over settings, in hexadecimal.

    Args:
        network: the network.
        settings: JSON values of all other settings that the descriptors depend on.
    """
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name, weight in sorted(network.state_dict().items()):
        add_tensor(digest, name, weight.float() if weight.is_floating_point() else weight)
    return digest.hexdigest()
