"""Loading trained networks that are used as they are, from a local folder or a hub id that the user named."""

import os
from pathlib import Path
from typing import Any

import torch

from sfumato.errors import BadInput
from sfumato.hub import from_hub, is_hub_id
from sfumato.networks.load import load_network


def load_frozen(
    kind: type[Any], folder: Path, *, dtype: torch.dtype | None = torch.float32, optional: str | None = None
) -> Any:
    """A network of diffusers or transformers from its local folder, in evaluation mode, without gradients.

    Args:
        kind: its class.
        folder: with config.json and its weights as safetensors.
        dtype: of the weights; None for the dtype that config.json names.
        optional: see `load_network`.

    Raises:
        BadInput: it cannot be read, is pickled, or lacks weights (the libraries would fill the gaps at random).
    """
    return load_network(kind, folder, dtype=dtype, optional=optional).eval().requires_grad_(False)


def local_folder(name: str | os.PathLike[str]) -> Path:
    """The folder of that name; for something like "org/name" that is no folder, its copy from the hub.

    Configuration, tokenizer and safetensors alone are fetched, and only because the user named them.
    Raises BadInput when there is neither.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if not is_hub_id(os.fspath(name)):
        raise BadInput(f"{path} is not a folder: give one with a network in the transformers layout, or a hub id.")
    return from_hub(os.fspath(name), ["*.json", "*.txt", "*.safetensors"], "network")
