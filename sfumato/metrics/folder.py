"""Where the frozen networks lie that metrics look through: a local folder, or a hub id that the user named."""

import os
from pathlib import Path

from sfumato.errors import BadInput
from sfumato.hub import from_hub, is_hub_id


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
