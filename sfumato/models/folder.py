"""Loading a diffusers pipeline folder part by part: safetensors only, without network access."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from sfumato.errors import BadInput
from sfumato.files import printable
from sfumato.models.assemble import AUTOENCODERS, SUPPORTED, UNETS, assemble
from sfumato.models.bundled import read_settings
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.models.schedules import SCHEDULERS, read_scheduler
from sfumato.networks.clip_tokenizer import read_tokenizer
from sfumato.networks.configs import read_table
from sfumato.networks.load import load_network, readable
from sfumato.networks.places import GIVE

ENCODERS = (transformers.CLIPTextModel, transformers.CLIPTextModelWithProjection)
TOKENIZERS = ("CLIPTokenizer", "CLIPTokenizerFast")
#: The supported classes of every part, by name. Class names in a folder are only looked up here.
NETWORKS: dict[str, dict[str, type[Any]]] = {
    part: {kind.__name__: kind for kind in kinds}
    for part, kinds in (
        ("unet", UNETS),
        ("vae", AUTOENCODERS),
        ("vqvae", AUTOENCODERS),
        ("text_encoder", ENCODERS),
        ("text_encoder_2", ENCODERS),
    )
}
# Parts that do not change the predicted noise; low_res_scheduler only adds noise to the maps.
WITHOUT_EFFECT = ("safety_checker", "feature_extractor", "image_encoder", "low_res_scheduler", "watermarker")
#: Pipelines that ignore the scaling_factor in the autoencoder's config.json.
UNSCALED = ("LDMSuperResolutionPipeline",)
PARTS = (*NETWORKS, "tokenizer", "tokenizer_2", "scheduler")
# Longest part of a name that a message shows; names in a file may have any length.
_SHOWN = 100


@dataclass(frozen=True)
class Index:
    """Content of `model_index.json`.

    Attributes:
        kinds: class name of every part, by the name of the part.
        empty_prompt_is_zero: SDXL's `force_zeros_for_empty_prompt`.
        unscaled: whether the pipeline ignores the autoencoder's scaling_factor.
    """

    kinds: dict[str, str]
    empty_prompt_is_zero: bool
    unscaled: bool = False


def load_folder(folder: Path, *, name: str, device: torch.device, dtype: torch.dtype) -> DiffusionModel:
    """Load the model in a diffusers pipeline folder.

    Raises:
        BadInput: this is not a pipeline folder, or a part is missing, broken, pickled or not supported.
    """
    index = read_index(folder)
    parts = load_parts(folder, index, dtype)
    for autoencoder in (parts[part] for part in ("vae", "vqvae") if index.unscaled and part in parts):
        autoencoder.register_to_config(scaling_factor=1.0)
    settings = read_settings(folder)
    return assemble(parts, name=name, settings=settings, empty_prompt_is_zero=index.empty_prompt_is_zero).to(device)


def load_parts(folder: Path, index: Index, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    """Load the parts of a pipeline folder, by name, as arguments of the pipeline classes of diffusers.

    Raises:
        BadInput: as `load_folder`.
    """
    return {part: load_part(folder, part, kind, dtype) for part, kind in index.kinds.items()}


def read_index(folder: Path) -> Index:
    """Read `model_index.json`, without empty entries and parts without effect.

    Raises:
        BadInput: the folder is not a pipeline folder, or the pipeline is not supported.
    """
    path = folder / "model_index.json"
    if not path.is_file():
        raise BadInput(
            f"{folder} has no model_index.json, so it is not a diffusers pipeline folder; give the folder that "
            "save_pretrained wrote, or a single .safetensors file."
        )
    table = read_table(path, folder)
    entries = {part: each for part, each in table.items() if isinstance(each, list) and part[:1] != "_"}
    entries |= {part: table[part] for part in PARTS if table.get(part) is not None}
    wrong = [part for part, each in entries.items() if not isinstance(each, list) or len(each) != 2]
    if wrong:
        raise BadInput(
            f"{printable(path)} cannot be read: {wrong[0][:_SHOWN]!r} must be a library and a class; {GIVE}."
        )
    kinds = {part[:_SHOWN]: str(value[1])[:_SHOWN] for part, value in entries.items() if value[1] is not None}
    unknown = [f"{part} ({kind})" for part, kind in kinds.items() if part not in (*PARTS, *WITHOUT_EFFECT)]
    if unknown or "unet" not in kinds or "scheduler" not in kinds:
        reason = f"it has {unknown[0]}" if unknown else "it has no U-Net or no scheduler"
        raise BadInput(
            f"{folder} is a {str(table.get('_class_name', 'pipeline'))[:_SHOWN]}, which cannot be used: {reason}; "
            f"sfumato works with {SUPPORTED}."
        )
    kinds = {part: kinds[part] for part in PARTS if part in kinds}
    for part, kind in kinds.items():
        _check_kind(folder, part, kind)
    zero = bool(table.get("force_zeros_for_empty_prompt", "text_encoder_2" in kinds))
    return Index(kinds, zero, unscaled=table.get("_class_name") in UNSCALED)


def _check_kind(folder: Path, part: str, kind: str) -> None:
    """Raise BadInput for a class that is not supported, before anything is loaded."""
    if part == "scheduler":
        if kind not in SCHEDULERS:
            raise BadInput(f"diffusers has no scheduler {kind}; put a DDIMScheduler in {folder / part}.")
    elif kind not in NETWORKS.get(part, TOKENIZERS):
        raise BadInput(
            f"The part {part} of {folder} is a {kind}, which cannot be used; sfumato works with {SUPPORTED}."
        )


def load_part(folder: Path, part: str, kind: str, dtype: torch.dtype) -> Any:
    """Load one part of a pipeline folder; `kind` is a name in `NETWORKS`, `TOKENIZERS` or `SCHEDULERS`.

    Raises:
        BadInput: as `load_folder`.
    """
    place = folder / part
    if not place.is_dir():
        raise BadInput(f"{folder} lacks its part {part}; {GIVE}.")
    if part == "scheduler":
        with readable(f"{printable(place)} cannot be read"):
            return read_scheduler(folder, kind)
    if part not in NETWORKS:
        return read_tokenizer(place, folder)
    network = NETWORKS[part][kind]
    return load_network(network, place, dtype=torch.float32 if network in AUTOENCODERS else dtype, root=folder)
