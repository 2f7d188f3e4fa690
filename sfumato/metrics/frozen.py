"""Loading of frozen pretrained networks from a local folder or a hub id that the user gives."""

import os
from pathlib import Path
from typing import Any

import torch

from sfumato.hub import from_hub
from sfumato.networks.image_networks import named_folder
from sfumato.networks.load import load_network


def load_frozen(
    kind: type[Any], folder: Path, *, dtype: torch.dtype | None = torch.float32, optional: str | None = None
) -> Any:
    """Load a network of diffusers or transformers from a local folder, in evaluation mode and without gradients.

    Args:
        kind: class of the network.
        folder: folder with config.json and weights as safetensors.
        dtype: dtype of the weights; None for the dtype that config.json names.
        optional: see `load_network`.

    Raises:
        BadInput: the network cannot be read, is pickled, or lacks weights (which the libraries would initialise at
            random).
    """
    return load_network(kind, folder, dtype=dtype, optional=optional).eval().requires_grad_(False)


def local_folder(name: str | os.PathLike[str]) -> Path:
    """The local folder with this name, or a downloaded copy of the hub repository with this id ("org/name").

    Only configuration, tokenizer and safetensors files are downloaded, and only for an id that the user gives.

    Raises:
        BadInput: the name is neither a folder nor a hub id, or the download fails.
    """
    found = named_folder(name)
    return from_hub(os.fspath(name), ["*.json", "*.txt", "*.safetensors"], "network") if found is None else found
