"""From trained networks to an ordinary Stable Diffusion pipeline folder.

With an AutoencoderKL, plain diffusers' `StableDiffusionPipeline.from_pretrained` opens it and draws. With a VQModel in
`vae/`, which sfumato loads all the same, plain diffusers opens the folder and samples latents (`output_type="latent"`),
but cannot decode them itself: its pipeline hands VQModel.decode an argument that it does not take. There,
`pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample` makes the pictures.
"""

import copy
import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel, VQModel
from diffusers.models.attention_processor import AttnProcessor2_0
from transformers import CLIPModel, CLIPTextModel, CLIPTokenizer

from sfumato.files import replaced_folder
from sfumato.libraries import quiet
from sfumato.metrics.frozen import load_frozen
from sfumato.train.record import SUMMARY

#: Files of a model folder that are written by hand and outlive a new export.
KEPT = ("sfumato.json", "README.md", "samples.png")


def assemble(
    autoencoder: AutoencoderKL | VQModel,
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


def export_pipeline(pipe: StableDiffusionPipeline, evaluator: Path | None, autoencoder: Path, folder: Path) -> None:
    """Write `pipe` in half-precision safetensors, and the evaluator in the subfolder `dual_encoder`.

    Written beside and renamed, so that `folder` is either the old model or the new one.

    Args:
        pipe: the trained parts in full precision; they are left as they are.
        evaluator: folder of the exported dual encoder that scores what the model makes; None for none.
        autoencoder: folder of the exported autoencoder, whose `training.json` goes along with its weights.
        folder: where the pipeline goes; what is there, apart from the files `KEPT`, is replaced.
    """
    networks = {name: copy.deepcopy(getattr(pipe, name)).half() for name in ("vae", "text_encoder", "unet")}
    networks["unet"].set_attn_processor(AttnProcessor2_0())
    half = assemble(networks["vae"], networks["text_encoder"], pipe.tokenizer, networks["unet"], pipe.scheduler)
    with replaced_folder(folder) as beside, quiet():
        half.save_pretrained(beside, safe_serialization=True)
        _load_in_full_precision(beside / "text_encoder" / "config.json")
        if evaluator is not None:
            _export_evaluator(evaluator, beside / "dual_encoder")
        if (autoencoder / SUMMARY).exists():
            shutil.copy2(autoencoder / SUMMARY, beside / "vae" / SUMMARY)
        for kept in KEPT:
            if (folder / kept).exists():
                shutil.copy2(folder / kept, beside / kept)


def _export_evaluator(evaluator: Path, folder: Path) -> None:
    shutil.copytree(evaluator, folder)
    load_frozen(CLIPModel, folder, dtype=torch.float16).save_pretrained(folder)
    _load_in_full_precision(folder / "config.json")


def _load_in_full_precision(config: Path) -> None:
    """Transformers loads in the dtype that the config names, diffusers in float32: without this they would not fit."""
    table = json.loads(config.read_text())
    for part in (table, table.get("text_config", {}), table.get("vision_config", {})):
        part.pop("torch_dtype", None)
        part["dtype"] = "float32"
    config.write_text(json.dumps(table, indent=2) + "\n")
