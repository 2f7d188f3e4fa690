"""Loading a model by bundled name, path or hub id."""

from collections.abc import Sequence
from pathlib import Path

import torch

from sfumato.devices import check_offload, pick_device
from sfumato.hub import from_hub
from sfumato.models.added_files import GivenInversion, GivenLora
from sfumato.models.bundled import BundledModel, bundled_path, list_models
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.models.folder import load_folder
from sfumato.models.index import PARTS
from sfumato.models.lora import fuse
from sfumato.models.lora_files import read_loras
from sfumato.models.model_files import check_config
from sfumato.models.names import PICKLES, is_single_file, place_of
from sfumato.models.precision import pick_dtype
from sfumato.models.single_file import load_single_file
from sfumato.models.textual_inversion import add_word, read_textual_inversions

UNWANTED = ("*.non_ema.*", "*.ema.*", "*openvino*", "*onnx*")
HALVED = ("*.fp16.*", "*.fp16-*")
PICKLED = tuple(f"*{suffix}" for suffix in PICKLES)

__all__ = ["BundledModel", "bundled_path", "list_models", "load_model"]


def load_model(
    name_or_path: str | Path,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    *,
    config: str | Path | None = None,
    lora: GivenLora | Sequence[GivenLora] = (),
    textual_inversion: GivenInversion | Sequence[GivenInversion] = (),
    prompt_weights: bool = False,
    prompt_chunks: int = 1,
    offload: bool = False,
) -> DiffusionModel:
    """Load a model for editing, in evaluation mode and without gradients of the weights.

    Names are looked up in this order: bundled models ("./emoji" is a folder of that name), local pipeline folders and
    .safetensors files, and repositories on the Hugging Face hub ("org/name"). Only the last case downloads anything.

    Args:
        name_or_path: bundled name, diffusers folder, single-file checkpoint or hub id.
        device: "auto" (CUDA if available, otherwise CPU), "cpu", "cuda", "cuda:1", "mps".
        dtype: "auto" (fp32), "fp32", "bf16", "fp16".
        config: for a single file, the local diffusers folder of a model of the same architecture; not necessary for
            Stable Diffusion 1.x, 2.x and XL.
        lora: LoRAs to fuse into the weights (`sfumato.models.lora`): files, "FILE:SCALE" or (file, scale).
        textual_inversion: embeddings to add (`sfumato.models.textual_inversion`): files or "FILE:WORD".
        prompt_weights: whether "(word:1.4)" in prompts is a weight (`sfumato.models.prompt_weights`).
        prompt_chunks: number of chunks into which prompts are split, for prompts of more than 75 tokens.
        offload: keep weights in main memory until they are needed (`sfumato.models.offload`).

    Raises:
        BadInput: the model, a file, the device or the precision does not exist, the model is not supported, or a file
            belongs to another model.
    """
    loras, inversions = read_loras(lora), read_textual_inversions(textual_inversion)
    place, precision = pick_device(device), pick_dtype(dtype)
    if offload:
        check_offload(place.type)
    model = _load(name_or_path, torch.device("cpu") if offload else place, precision, config)
    for inversion in inversions:
        add_word(model, inversion)
    for each in loras:
        fuse(model, each)
    files = {"lora": [each.about() for each in loras], "textual_inversion": [each.about() for each in inversions]}
    model.additions = {name: entries for name, entries in files.items() if entries}
    model.read_prompts(weights=prompt_weights, chunks=prompt_chunks)
    return model.offload(place) if offload else model


def _load(
    name_or_path: str | Path, place: torch.device, precision: torch.dtype, config: str | Path | None
) -> DiffusionModel:
    name = str(name_or_path)
    path = Path(name_or_path).expanduser()
    found = place_of(name)
    check_config(name, found, config)
    if found is not None and is_single_file(path):
        folder = None if config is None else Path(config).expanduser()
        return load_single_file(found, folder, name=name, device=place, dtype=precision)
    return load_folder(_download(name) if found is None else found, name=name, device=place, dtype=precision)


def _download(hub_id: str) -> Path:
    """Download a pipeline from the hub: configurations, tokenizers and safetensors only.

    Weights in half precision are downloaded only for parts that have no others.
    """
    files = [f"{part}/{end}" for part in PARTS for end in ("*.json", "*.txt", "*.safetensors")]
    folder = from_hub(hub_id, ["model_index.json", "sfumato.json", *files], "model", [*UNWANTED, *HALVED])
    bare = [
        part
        for part in PARTS
        if (folder / part / "config.json").is_file() and not any((folder / part).glob("*.safetensors"))
    ]
    if bare:
        halved = [f"{part}/{end}" for part in bare for end in HALVED]
        folder = from_hub(hub_id, halved, "model", [*UNWANTED, *PICKLED])
    return folder
