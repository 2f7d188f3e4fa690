"""Reading a diffusers pipeline folder part by part: safetensors only, nothing from the network."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from safetensors import SafetensorError

from sfumato.errors import BadInput
from sfumato.libraries import quiet
from sfumato.models.assemble import AUTOENCODERS, SUPPORTED, UNETS, assemble
from sfumato.models.bundled import read_settings
from sfumato.models.diffusion_model import DiffusionModel

NETWORKS = {kind.__name__: kind for kind in (*UNETS, *AUTOENCODERS)}
ENCODERS = {"CLIPTextModel": transformers.CLIPTextModel}
ENCODERS["CLIPTextModelWithProjection"] = transformers.CLIPTextModelWithProjection
TOKENIZERS = ("CLIPTokenizer", "CLIPTokenizerFast")
# Parts that change nothing about the network's prediction.
WITHOUT_EFFECT = ("safety_checker", "feature_extractor", "image_encoder")
PARTS = ("unet", "vae", "vqvae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler")


def load_folder(folder: Path, *, name: str, device: torch.device, dtype: torch.dtype) -> DiffusionModel:
    """The model in a diffusers pipeline folder.

    Raises:
        BadInput: not such a folder, a part that is missing, broken, pickled or not supported.
    """
    index = read_index(folder)
    parts = {part: _load(folder, part, str(index[part][1]), dtype) for part in PARTS if part in index}
    zero = bool(index.get("force_zeros_for_empty_prompt", "text_encoder_2" in index))
    model = assemble(parts, name=name, settings=read_settings(folder), empty_prompt_is_zero=zero)
    return model.to(device)


def read_index(folder: Path) -> dict[str, Any]:
    """`model_index.json` without its empty entries.

    Raises:
        BadInput: the folder is no pipeline, or one of another kind.
    """
    path = folder / "model_index.json"
    if not path.is_file():
        raise BadInput(
            f"{folder} has no model_index.json, so it is not a diffusers pipeline folder; give the folder that "
            "save_pretrained wrote, or a single .safetensors file."
        )
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        named = {part: value for part, value in index.items() if isinstance(value, list) and value[1] is not None}
    except (ValueError, AttributeError, IndexError) as error:
        raise BadInput(f"{path} cannot be read ({error}); get it again.") from None
    unknown = [f"{part} ({value[1]})" for part, value in named.items() if part not in (*PARTS, *WITHOUT_EFFECT)]
    if unknown or "unet" not in named or "scheduler" not in named:
        reason = f"it has {unknown[0]}" if unknown else "it has no U-Net or no scheduler"
        raise BadInput(
            f"{folder} is a {index.get('_class_name', 'pipeline')}, which cannot be used: {reason}; "
            f"sfumato works with {SUPPORTED}."
        )
    return named | {key: value for key, value in index.items() if not isinstance(value, list)}


def _load(folder: Path, part: str, kind: str, dtype: torch.dtype) -> Any:
    if not (folder / part).is_dir():
        raise BadInput(f"{folder} lacks its part {part}; get the folder again.")
    with readable(f"{folder / part} cannot be read"), quiet():
        if part == "scheduler":
            return _scheduler(folder, kind)
        if kind in TOKENIZERS:
            return transformers.CLIPTokenizer.from_pretrained(folder / part, local_files_only=True)
        if kind in NETWORKS:
            precision = dtype if part == "unet" else torch.float32
            variant = _variant(folder / part, "diffusion_pytorch_model")
            return _complete(NETWORKS[kind].from_pretrained, folder / part, dtype=precision, variant=variant)
        if kind in ENCODERS:
            variant = _variant(folder / part, "model")
            return _complete(ENCODERS[kind].from_pretrained, folder / part, dtype=dtype, variant=variant)
    raise BadInput(f"The part {part} of {folder} is a {kind}, which cannot be used; sfumato works with {SUPPORTED}.")


def _scheduler(folder: Path, kind: str) -> Any:
    scheduler: Any = getattr(diffusers, kind, None)
    # Any other class of diffusers would open whatever weights lie there, pickles too.
    known = isinstance(scheduler, type) and issubclass(scheduler, diffusers.SchedulerMixin)
    if not known:
        raise BadInput(f"diffusers has no scheduler {kind}; put a DDIMScheduler in {folder / 'scheduler'}.")
    return scheduler.from_pretrained(folder, subfolder="scheduler", local_files_only=True)


def _variant(folder: Path, stem: str) -> str | None:
    """None where the plain weights are there, "fp16" where only those are.

    Raises:
        BadInput: no safetensors.
    """
    for variant, whole, shards in (
        (None, f"{stem}.safetensors", f"{stem}.safetensors.index.json"),
        ("fp16", f"{stem}.fp16.safetensors", f"{stem}.safetensors.index.fp16.json"),
    ):
        if (folder / whole).is_file() or (folder / shards).is_file():
            return variant
    if [*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.ckpt")]:
        raise BadInput(f"{folder} holds pickled weights, which can run code when opened; convert them to safetensors.")
    raise BadInput(f"{folder} has no {stem}.safetensors; get the folder again.")


def _complete(load: Callable[..., Any], folder: Path, **how: Any) -> Any:
    """Load, and refuse weights with gaps, which would otherwise be filled with random numbers."""
    network, found = load(folder, local_files_only=True, use_safetensors=True, output_loading_info=True, **how)
    missing = sorted(found["missing_keys"])
    if missing:
        raise BadInput(f"{folder} lacks {len(missing)} weights, among them {missing[0]}; get the folder again.")
    return network


@contextmanager
def readable(problem: str) -> Iterator[None]:
    """Turn what the libraries raise about a broken file into one sentence.

    Raises:
        BadInput: instead of what was raised, with its first line.
    """
    try:
        yield
    except BadInput:
        raise
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BadInput(f"{problem}: {first}") from error
