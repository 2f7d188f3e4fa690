"""Tiny random pipelines in every layout that sfumato loads, saved as ordinary diffusers folders.

Each has a few ten thousand parameters and is a function of its seed; the global generator is left alone.
The autoencoders reduce by 4, the networks have two levels: pictures must be multiples of 8 pixels (DDPM: 2).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    LDMPipeline,
    LDMSuperResolutionPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionInstructPix2PixPipeline,
    StableDiffusionPipeline,
    StableDiffusionUpscalePipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    UNet2DModel,
    VQModel,
)
from PIL import Image
from tokenizers import pre_tokenizers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

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
    """Draw random weights from `seed` and give the global CPU generator back untouched."""
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
        # with 1 all tokens are nearly the same vector in so narrow a encoder
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
            weight.data *= 3  # random networks hardly hear the prompt; tests of editing need one that does
    return network


def _save_stable_diffusion(folder: Path, unet: Any, vae: Any, text: Any, tokenizer: Any, scheduler: Any) -> Path:
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
        return _save_stable_diffusion(
            folder,
            tiny_unet(**unet),
            tiny_vae(vae),
            CLIPTextModel(text_config(tokenizer)),
            tokenizer,
            DDIMScheduler(prediction_type=prediction_type, **STABLE_DIFFUSION_BETAS),
        )


def tiny_sd2(folder: Path, *, seed: int = 2) -> Path:
    """Stable Diffusion 2.x: v-prediction, gelu text encoder, linear projections, "!" as padding."""
    with seeded(seed):
        tokenizer = tiny_tokenizer(pad="!")
        return _save_stable_diffusion(
            folder,
            tiny_unet(use_linear_projection=True, attention_head_dim=(1, 2)),
            tiny_vae(),
            CLIPTextModel(text_config(tokenizer, hidden_act="gelu")),
            tokenizer,
            DDIMScheduler(prediction_type="v_prediction", **STABLE_DIFFUSION_BETAS),
        )


def tiny_sdxl(folder: Path, *, seed: int = 3) -> Path:
    """Stable Diffusion XL: two text encoders side by side, pooled vector and time ids."""
    with seeded(seed):
        tokenizer, tokenizer_2 = tiny_tokenizer(), tiny_tokenizer(pad="!")
        StableDiffusionXLPipeline(
            vae=tiny_vae(),
            text_encoder=CLIPTextModel(text_config(tokenizer)),
            text_encoder_2=CLIPTextModelWithProjection(text_config(tokenizer_2, hidden_act="gelu")),
            tokenizer=tokenizer,
            tokenizer_2=tokenizer_2,
            unet=tiny_unet(
                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
                up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
                transformer_layers_per_block=(1, 2),
                use_linear_projection=True,
                cross_attention_dim=2 * WIDTH,
                addition_embed_type="text_time",
                addition_time_embed_dim=8,
                projection_class_embeddings_input_dim=6 * 8 + WIDTH,
            ),
            scheduler=DDIMScheduler(**STABLE_DIFFUSION_BETAS),
            add_watermarker=False,
        ).save_pretrained(folder)
    return Path(folder)


def tiny_ddpm(folder: Path, *, seed: int = 4, **unet: Any) -> Path:
    """Pixel-space DDPM: UNet2DModel on 16x16 RGB, linear betas, small fixed variance, no text."""
    settings: dict[str, Any] = {
        "sample_size": 16,
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        "norm_num_groups": 4,
    }
    with seeded(seed):
        network = UNet2DModel(**settings | unet)
    scheduler = DDPMScheduler(beta_schedule="linear", variance_type="fixed_small", clip_sample=False)
    DDPMPipeline(unet=network, scheduler=scheduler).save_pretrained(folder)
    return Path(folder)


def _text_parts(**unet: Any) -> dict[str, Any]:
    """U-Net, autoencoder and text encoder of a Stable Diffusion 1.x; `unet` changes its config."""
    tokenizer = tiny_tokenizer()
    text = CLIPTextModel(text_config(tokenizer))
    return {"vae": tiny_vae(), "text_encoder": text, "tokenizer": tokenizer, "unet": tiny_unet(**unet)}


def tiny_inpainting(folder: Path, *, seed: int = 5, channels: int = 9) -> Path:
    """Stable Diffusion 1.x for inpainting: mask and masked_image_latents beside the latent."""
    with seeded(seed):
        parts = _text_parts(in_channels=channels)
    scheduler = DDIMScheduler(**STABLE_DIFFUSION_BETAS)
    checker = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    StableDiffusionInpaintPipeline(**parts, scheduler=scheduler, **checker).save_pretrained(folder)
    return Path(folder)


def tiny_instruct_pix2pix(folder: Path, *, seed: int = 6) -> Path:
    """InstructPix2Pix: the encoded picture beside the latent."""
    with seeded(seed):
        parts = _text_parts(in_channels=8)
    scheduler = DDIMScheduler(**STABLE_DIFFUSION_BETAS)
    checker = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    StableDiffusionInstructPix2PixPipeline(**parts, scheduler=scheduler, **checker).save_pretrained(folder)
    return Path(folder)


def tiny_upscaler(folder: Path, *, seed: int = 7) -> Path:
    """Stable Diffusion's 4x upscaler: RGB beside the latent, noise level as class label, v-prediction."""
    with seeded(seed):
        parts = _text_parts(in_channels=7, num_class_embeds=50)
    parts["vae"].register_to_config(scaling_factor=0.08333)
    schedulers = {
        "low_res_scheduler": DDPMScheduler(num_train_timesteps=50),
        "scheduler": DDIMScheduler(prediction_type="v_prediction", **STABLE_DIFFUSION_BETAS),
    }
    StableDiffusionUpscalePipeline(**parts, **schedulers).save_pretrained(folder)
    return Path(folder)


def tiny_class_latent(folder: Path, *, seed: int = 8, cross_attention: bool = False, **unet: Any) -> Path:
    """A class-conditional UNet2DConditionModel on the latents of a VQModel, without text. `unet` changes its config."""
    settings: dict[str, Any] = {"num_class_embeds": 11}
    if not cross_attention:
        settings |= {
            "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
            "mid_block_type": "UNetMidBlock2D",
            "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        }
    with seeded(seed):
        parts = {"vqvae": tiny_vae("vq"), "unet": tiny_unet(**settings | unet)}
    LDMPipeline(**parts, scheduler=DDIMScheduler(**STABLE_DIFFUSION_BETAS)).save_pretrained(folder)
    return Path(folder)


def tiny_super_resolution(folder: Path, *, seed: int = 9) -> Path:
    """Latent diffusion's super-resolution: UNet2DModel with the small picture beside a latent of three channels."""
    with seeded(seed):
        vqvae = VQModel(
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            block_out_channels=(8, 8, 16),
            latent_channels=3,
            norm_num_groups=4,
            num_vq_embeddings=32,
        )
        vqvae.quantize.embedding.weight.data.normal_()  # as large as latents: which is nearest depends on their scale
        unet = UNet2DModel(
            sample_size=8,
            in_channels=6,
            out_channels=3,
            block_out_channels=(8, 16),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            norm_num_groups=4,
        )
    scheduler = DDIMScheduler(**STABLE_DIFFUSION_BETAS)
    LDMSuperResolutionPipeline(vqvae=vqvae, unet=unet, scheduler=scheduler).save_pretrained(folder)
    return Path(folder)


LAYOUTS: dict[str, Callable[[Path], Path]] = {
    "sd": tiny_sd,
    "sd2": tiny_sd2,
    "sdxl": tiny_sdxl,
    "ddpm": tiny_ddpm,
}


def tiny_picture(width: int = 32, height: int = 32, seed: int = 0) -> Image.Image:
    """A smooth RGB picture with a disc in it, of any size, for tests that need something to edit."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / max(width, height)
    ground = np.stack([rng.uniform(60, 160) + 90 * np.sin(rng.uniform(2, 6, 2) @ [x.ravel(), y.ravel()])] * 3, -1)
    ground = ground.reshape(height, width, 3) * rng.uniform(0.5, 1, 3)
    disc = (x - x.mean()) ** 2 + (y - y.mean()) ** 2 < 0.06
    ground[disc] = rng.uniform(0, 255, 3)
    return Image.fromarray(ground.clip(0, 255).astype(np.uint8), "RGB")
