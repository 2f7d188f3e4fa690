"""Export trained networks as a Stable Diffusion pipeline folder.

With an AutoencoderKL in `vae/`, `StableDiffusionPipeline.from_pretrained` loads the folder and generates images.

With a VQModel, sfumato loads the folder too. Diffusers loads it and samples latents (`output_type="latent"`), but its
pipeline cannot decode them, because it passes VQModel.decode an argument that it does not accept. Decode them with
`pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample`.
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

#: Manually written files of a model folder, which a new export keeps.
KEPT = ("sfumato.json", "README.md", "samples.png")


def assemble(
    autoencoder: AutoencoderKL | VQModel,
    text: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    unet: UNet2DConditionModel,
    scheduler: DDIMScheduler,
) -> StableDiffusionPipeline:
    """Build a pipeline of the given networks, without copying them."""
    return StableDiffusionPipeline(
        vae=autoencoder, text_encoder=text, tokenizer=tokenizer, unet=unet, scheduler=scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def export_pipeline(pipe: StableDiffusionPipeline, evaluator: Path | None, autoencoder: Path, folder: Path) -> None:
    """Write `pipe` in half-precision safetensors, and the evaluator in the subfolder `dual_encoder`.

    The files are written to a temporary folder that is renamed at the end, so `folder` always contains a complete
    model, the old or the new one.

    Args:
        pipe: the trained networks in full precision; they are not changed.
        evaluator: folder of the exported dual encoder that scores the model's images; None for none.
        autoencoder: folder of the exported autoencoder; its `training.json` is copied to `vae/`.
        folder: target folder; its content is replaced, except for the files `KEPT`.
    """
    networks = {name: copy.deepcopy(getattr(pipe, name)).half() for name in ("vae", "text_encoder", "unet")}
    networks["unet"].set_attn_processor(AttnProcessor2_0())
    half = assemble(networks["vae"], networks["text_encoder"], pipe.tokenizer, networks["unet"], pipe.scheduler)
    with replaced_folder(folder) as temporary, quiet():
        half.save_pretrained(temporary, safe_serialization=True)
        _load_in_full_precision(temporary / "text_encoder" / "config.json")
        if evaluator is not None:
            _export_evaluator(evaluator, temporary / "dual_encoder")
        if (autoencoder / SUMMARY).exists():
            shutil.copy2(autoencoder / SUMMARY, temporary / "vae" / SUMMARY)
        for kept in KEPT:
            if (folder / kept).exists():
                shutil.copy2(folder / kept, temporary / kept)


def _export_evaluator(evaluator: Path, folder: Path) -> None:
    shutil.copytree(evaluator, folder)
    load_frozen(CLIPModel, folder, dtype=torch.float16).save_pretrained(folder)
    _load_in_full_precision(folder / "config.json")


def _load_in_full_precision(config: Path) -> None:
    """Set the dtype in a config to float32.

    Transformers loads weights in the dtype of the config, diffusers in float32; the networks of a pipeline must agree.
    """
    table = json.loads(config.read_text())
    for part in (table, table.get("text_config", {}), table.get("vision_config", {})):
        part.pop("torch_dtype", None)
        part["dtype"] = "float32"
    config.write_text(json.dumps(table, indent=2) + "\n")
