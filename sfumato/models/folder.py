"""Loading a diffusers pipeline folder part by part: safetensors only, without network access."""

from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

from sfumato.files import printable
from sfumato.models.assemble import assemble
from sfumato.models.bundled import read_settings
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.models.index import AUTOENCODERS, TEXT_ENCODERS, Index, part_folder, read_index
from sfumato.models.index import NETWORKS as CLASSES
from sfumato.models.schedules import read_scheduler
from sfumato.networks.clip_tokenizer import read_tokenizer
from sfumato.networks.load import load_network, readable

#: The supported classes of every network, by name. Class names in a folder are only looked up here.
NETWORKS: dict[str, dict[str, type[Any]]] = {
    part: {name: getattr(transformers if part in TEXT_ENCODERS else diffusers, name) for name in names}
    for part, names in CLASSES.items()
}


def load_folder(folder: Path, *, name: str, device: torch.device, dtype: torch.dtype) -> DiffusionModel:
    """Load the model in a diffusers pipeline folder.

    Raises:
        BadInput: this is not a pipeline folder, or a part is missing, broken, pickled or not supported.
    """
    index = read_index(folder)
    parts = load_parts(folder, index, dtype)
    for autoencoder in (parts[part] for part in AUTOENCODERS if index.unscaled and part in parts):
        autoencoder.register_to_config(scaling_factor=1.0)
    settings = read_settings(folder)
    return assemble(parts, name=name, settings=settings, empty_prompt_is_zero=index.empty_prompt_is_zero).to(device)


def load_parts(folder: Path, index: Index, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    """Load the parts of a pipeline folder, by name, as arguments of the pipeline classes of diffusers.

    Raises:
        BadInput: as `load_folder`.
    """
    return {part: load_part(folder, part, kind, dtype) for part, kind in index.kinds.items()}


def load_part(folder: Path, part: str, kind: str, dtype: torch.dtype) -> Any:
    """Load one part of a pipeline folder; `kind` is a name in the index (`sfumato.models.index`).

    Raises:
        BadInput: as `load_folder`.
    """
    place = part_folder(folder, part)
    if part == "scheduler":
        with readable(f"{printable(place)} cannot be read"):
            return read_scheduler(folder, kind)
    if part not in NETWORKS:
        return read_tokenizer(place, folder)
    network = NETWORKS[part][kind]
    return load_network(network, place, dtype=torch.float32 if part in AUTOENCODERS else dtype, root=folder)
