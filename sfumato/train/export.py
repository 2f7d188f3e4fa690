"""From trained networks to an ordinary Stable Diffusion pipeline folder."""

import copy
import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor2_0
from transformers import CLIPModel, CLIPTextModel, CLIPTokenizer


def assemble(
    autoencoder: AutoencoderKL,
    text: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    unet: UNet2DConditionModel,
    scheduler: DDIMScheduler,
) -> StableDiffusionPipeline:
    """The parts as a pipeline in memory; they are shared, not copied."""
    return StableDiffusionPipeline(
        vae=autoencoder, text_encoder=text, tokenizer=tokenizer, unet=unet, scheduler=scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def export_pipeline(pipe: StableDiffusionPipeline, dual_encoder: Path, folder: Path) -> None:
    """Write `pipe` in half-precision safetensors, and the dual encoder in the subfolder `dual_encoder`.

    Written beside and renamed, so that `folder` is either the old model or the new one.

    Args:
        pipe: the trained parts in full precision; they are left as they are.
        dual_encoder: folder of the exported dual encoder.
        folder: where the pipeline goes; what is there, apart from `sfumato.json` and `README.md`, is replaced.
    """
    beside = folder.with_name(f".{folder.name}.{os.getpid()}")
    networks = {name: copy.deepcopy(getattr(pipe, name)).half() for name in ("vae", "text_encoder", "unet")}
    networks["unet"].set_attn_processor(AttnProcessor2_0())
    assemble(
        networks["vae"], networks["text_encoder"], pipe.tokenizer, networks["unet"], pipe.scheduler
    ).save_pretrained(beside, safe_serialization=True)
    towers = beside / "dual_encoder"
    shutil.copytree(dual_encoder, towers)
    CLIPModel.from_pretrained(towers, local_files_only=True, dtype=torch.float16).save_pretrained(towers)
    for part in (beside / "text_encoder", towers):
        _load_in_full_precision(part / "config.json")
    for kept in ("sfumato.json", "README.md"):
        if (folder / kept).exists():
            shutil.copy2(folder / kept, beside / kept)
    if folder.exists():
        shutil.rmtree(folder)
    beside.rename(folder)


def _load_in_full_precision(config: Path) -> None:
    """Transformers loads in the dtype that the config names, diffusers in float32: without this they would not fit."""
    table = json.loads(config.read_text())
    for part in (table, table.get("text_config", {}), table.get("vision_config", {})):
        part.pop("torch_dtype", None)
        part["dtype"] = "float32"
    config.write_text(json.dumps(table, indent=2) + "\n")


def write_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Write the model's own defaults for editing and generating (`sfumato.json`)."""
    (folder / "sfumato.json").write_text(json.dumps(settings, indent=1) + "\n")
