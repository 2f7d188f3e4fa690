"""Opening the frozen networks that metrics look through: from a local folder, or a hub id that the user named."""

import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from sfumato.errors import BadInput, first_line
from sfumato.hub import from_hub, is_hub_id
from sfumato.libraries import quiet


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


def load_network(kind: Any, folder: Path) -> Any:
    """A network of transformers from its folder: float32, frozen, safetensors alone, every weight that we use there.

    Raises BadInput for anything that cannot be opened.
    """
    try:
        with quiet():
            network, found = kind.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, output_loading_info=True, dtype=torch.float32
            )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise BadInput(f"{folder} cannot be read as a {kind.__name__}: {first_line(error)}") from error
    # Self-supervised models are published without the pooler, which nothing here looks at.
    missing = sorted(name for name in found["missing_keys"] if "pooler." not in name)
    if missing:
        raise BadInput(f"{folder} is no {kind.__name__}: it lacks {len(missing)} weights, among them {missing[0]}.")
    return network.eval().requires_grad_(False)
