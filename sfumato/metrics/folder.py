"""Opening the frozen networks that metrics look through: from a local folder, or a hub id that the user named."""

import os
import re
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled
from safetensors import SafetensorError

from sfumato.errors import BadInput
from sfumato.libraries import quiet

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def local_folder(name: str | os.PathLike[str]) -> Path:
    """The folder of that name; for something like "org/name" that is no folder, its copy from the hub.

    Configuration, tokenizer and safetensors alone are fetched, and only because the user named them.
    Raises BadInput when there is neither.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if not HUB_ID.fullmatch(os.fspath(name)):
        raise BadInput(f"{path} is not a folder: give one with a network in the transformers layout, or a hub id.")
    try:
        return Path(snapshot_download(os.fspath(name), allow_patterns=["*.json", "*.txt", "*.safetensors"]))
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        raise BadInput(
            f"There is no folder {name}, and the hub did not give a network of that name ({first_line(error)}); check "
            "the name, or give a local folder."
        ) from error


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


def first_line(error: Exception) -> str:
    """What a library says, without its explanations."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
