"""A tiny Stable Diffusion for tests, with tens of thousands of parameters; its random weights depend only on a seed.

Its autoencoder has a downsampling factor of 4 and its U-Net has two levels, so the sides of images must be multiples of
8 pixels. The state of the global random generator is not changed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    DDIMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
    VQModel,
)
from PIL import Image
from tokenizers import pre_tokenizers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
WORDS = ("red", "green", "blue", "apple", "cat", "dog", "heart", "face", "star", "tree", "noto", "twemoji")
CONTEXT = 77
WIDTH = 16

STABLE_DIFFUSION_BETAS: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Context with the global CPU generator seeded by `seed`; its previous state is restored on exit."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def tiny_tokenizer(pad: str = END, context: int = CONTEXT) -> CLIPTokenizer:
    """CLIP's byte-level BPE: every byte is a token, and the words of WORDS are one token each."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        pieces = [*word[:-1], word[-1] + "</w>"]
        merges += [("".join(pieces[:n]), pieces[n]) for n in range(1, len(pieces))]
    merges = list(dict.fromkeys(merges))
    tokens = [*letters, *(letter + "</w>" for letter in letters), *(a + b for a, b in merges), START, END]
    vocab = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocab, merges=merges, pad_token=pad, model_max_length=context)


def text_config(tokenizer: CLIPTokenizer, **changes: Any) -> CLIPTextConfig:
    """A two-layer CLIP text encoder of width 16."""
    settings: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "projection_dim": WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": tokenizer.model_max_length,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        # with 1, the embeddings of all tokens are nearly equal in such a narrow encoder
        "initializer_factor": 3.0,
    }
    return CLIPTextConfig(**settings | changes)


def tiny_vae(kind: str = "kl") -> AutoencoderKL | VQModel | AutoencoderTiny:
    """An autoencoder with factor 4 and four latent channels: "kl", "vq" or "tiny"."""
    channels = (8, 8, 16)
    if kind == "tiny":
        return AutoencoderTiny(
            encoder_block_out_channels=(8, 8, 8),
            decoder_block_out_channels=(8, 8, 8),
            num_encoder_blocks=(1, 1, 1),
            num_decoder_blocks=(1, 1, 1),
        )
    settings: dict[str, Any] = {
        "down_block_types": ("DownEncoderBlock2D",) * 3,
        "up_block_types": ("UpDecoderBlock2D",) * 3,
        "block_out_channels": channels,
        "latent_channels": 4,
        "norm_num_groups": 4,
        "sample_size": 32,
    }
    if kind == "vq":
        return VQModel(num_vq_embeddings=32, scaling_factor=0.5, **settings)
    return AutoencoderKL(scaling_factor=0.5, **settings)


def tiny_unet(**changes: Any) -> UNet2DConditionModel:
    """A two-level U-Net with cross-attention, on 8x8 latents of four channels."""
    settings: dict[str, Any] = {
        "sample_size": 8,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": WIDTH,
        "attention_head_dim": 2,
        "norm_num_groups": 4,
    }
    network = UNet2DConditionModel(**settings | changes)
    for name, weight in network.named_parameters():
        if "attn2.to_out" in name or "attn2.to_v" in name:
            weight.data *= 3  # otherwise the output would hardly depend on the prompt
    return network


def save_stable_diffusion(folder: Path, unet: Any, vae: Any, text: Any, tokenizer: Any, scheduler: Any) -> Path:
    """Write the parts of a Stable Diffusion as a diffusers folder."""
    StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return Path(folder)


def tiny_sd(folder: Path, prediction_type: str = "epsilon", *, seed: int = 1, vae: str = "kl", **unet: Any) -> Path:
    """Stable Diffusion 1.x: one CLIP text encoder, 8x8 latents, 32x32 pixels. `unet` changes its config."""
    with seeded(seed):
        tokenizer = tiny_tokenizer()
        return save_stable_diffusion(
            folder,
            tiny_unet(**unet),
            tiny_vae(vae),
            CLIPTextModel(text_config(tokenizer)),
            tokenizer,
            DDIMScheduler(prediction_type=prediction_type, **STABLE_DIFFUSION_BETAS),
        )


def tiny_image(width: int = 32, height: int = 32, seed: int = 0) -> Image.Image:
    """A smooth RGB image with a disc in it, as a source image for tests."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / max(width, height)
    ground = np.stack([rng.uniform(60, 160) + 90 * np.sin(rng.uniform(2, 6, 2) @ [x.ravel(), y.ravel()])] * 3, -1)
    ground = ground.reshape(height, width, 3) * rng.uniform(0.5, 1, 3)
    disc = (x - x.mean()) ** 2 + (y - y.mean()) ** 2 < 0.06
    ground[disc] = rng.uniform(0, 255, 3)
    return Image.fromarray(ground.clip(0, 255).astype(np.uint8), "RGB")
