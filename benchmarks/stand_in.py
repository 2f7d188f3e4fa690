"""A model with the architecture of Stable Diffusion 1.5 and random weights, for measurements of cost.

    python benchmarks/stand_in.py out/stand-in                # 3.9 GB, fp32
    python benchmarks/attention_memory.py --model out/stand-in --size 512

Its output is noise. Its tokenizer is that of the bundled model, with the 77 tokens of CLIP.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from sfumato.models.load import list_models

TOKENS = 77


def build(folder: Path, *, unet: int = 320, vae: int = 128, text: int = 768, layers: int = 12) -> None:
    """Save the pipeline.

    Args:
        folder: output folder.
        unet: channels of the first level of the U-Net; the others have 2, 4 and 4 times that number.
        vae: channels of the first level of the autoencoder; the others have 2, 4 and 4 times that number.
        text: width of the text encoder, a multiple of 64.
        layers: layers of the text encoder.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tokenizer = _tokenizer()
        StableDiffusionPipeline(
            vae=_autoencoder(vae),
            text_encoder=_text_encoder(tokenizer, text, layers),
            tokenizer=tokenizer,
            unet=unet_of(unet, text),
            scheduler=_scheduler(),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        ).save_pretrained(folder)


def _tokenizer() -> Any:
    (emoji,) = (model.folder for model in list_models() if model.name == "emoji")
    return CLIPTokenizer.from_pretrained(emoji / "tokenizer", model_max_length=TOKENS)


def _text_encoder(tokenizer: Any, width: int, layers: int) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=4 * width,
            projection_dim=width,
            num_hidden_layers=layers,
            num_attention_heads=width // 64,
            max_position_embeddings=TOKENS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def _autoencoder(channels: int) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=tuple(channels * each for each in (1, 2, 4, 4)),
        layers_per_block=2,
        latent_channels=4,
        sample_size=512,
        scaling_factor=0.18215,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    )


def unet_of(channels: int, text: int) -> UNet2DConditionModel:
    """The U-Net with random weights; `channels` of the first level, `text` is the width of the text encoder."""
    return UNet2DConditionModel(
        sample_size=64,
        block_out_channels=tuple(channels * each for each in (1, 2, 4, 4)),
        layers_per_block=2,
        cross_attention_dim=text,
        attention_head_dim=8,
    )


def _scheduler() -> DDIMScheduler:
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def main(words: Sequence[str] | None = None) -> None:
    """Write the pipeline to the folder of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="output folder")
    build(parser.parse_args(words).folder)


if __name__ == "__main__":
    main()
