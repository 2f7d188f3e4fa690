"""Loading a model by bundled name, path or hub id."""

from pathlib import Path

import torch

from sfumato.errors import BadInput
from sfumato.hub import from_hub, is_hub_id
from sfumato.models.bundled import BundledModel, bundled_path, list_models
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.models.folder import PARTS, load_folder
from sfumato.models.placement import pick_device, pick_dtype
from sfumato.models.single_file import PICKLES, load_single_file

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
) -> DiffusionModel:
    """Load a model for editing, in evaluation mode and without gradients of the weights.

    Names are looked up in this order: bundled models ("./emoji" is a folder of that name), local pipeline folders and
    .safetensors files, and repositories on the Hugging Face hub ("org/name"). Only the last case downloads anything.

    Args:
        name_or_path: bundled name, diffusers folder, single-file checkpoint or hub id.
        device: "auto" (CUDA if available, otherwise CPU), "cpu", "cuda", "cuda:1", "mps".
        dtype: "auto" (fp32), "fp32", "bf16", "fp16".
        config: for a single file, the local diffusers folder of a model of the same architecture.

    Raises:
        BadInput: the model, device or precision does not exist, or the model is not supported.
    """
    name, place, precision = str(name_or_path), pick_device(device), pick_dtype(dtype)
    path = Path(name_or_path).expanduser()
    if path.suffix in (".safetensors", *PICKLES) and not path.is_dir():
        folder = None if config is None else Path(config).expanduser()
        return load_single_file(path, folder, name=name, device=place, dtype=precision)
    if config is not None:
        raise BadInput(f"config= is for a single .safetensors file, which {name} is not; leave it out.")
    return load_folder(_folder(name, path), name=name, device=place, dtype=precision)


def _folder(name: str, path: Path) -> Path:
    bundled = {model.name: model.folder for model in list_models()}
    if name in bundled:
        return bundled[name]
    if path.is_dir():
        return path
    if path.exists():
        raise BadInput(f"{path} is neither a pipeline folder nor a .safetensors file; give one of them.")
    if is_hub_id(name):
        return _download(name)
    raise BadInput(
        f"There is no model {name}: give a bundled name ({', '.join(bundled) or 'none here'}), a diffusers folder, "
        "a .safetensors file, or a hub id such as org/name."
    )


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
