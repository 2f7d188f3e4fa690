"""Fingerprint of the weights of a descriptor network, which an index of descriptors records."""

import hashlib

from torch import nn

from sfumato.models.fingerprint import add_tensor


def fingerprint_of(network: nn.Module) -> str:
    """SHA-256 over the names, shapes and values (as float32) of all weights, in hexadecimal."""
    digest = hashlib.sha256()
    for name, weight in sorted(network.state_dict().items()):
        add_tensor(digest, name, weight.float() if weight.is_floating_point() else weight)
    return digest.hexdigest()
