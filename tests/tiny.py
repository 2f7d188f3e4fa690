"""Tiny random pipelines in every layout that sfumato loads, saved as ordinary diffusers folders.

Each has a few ten thousand parameters and is a function of its seed; the global generator is not changed.
The autoencoders reduce by 4, the networks have two levels: image sides must be multiples of 8 pixels (DDPM: 2).
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from diffusers import (
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    LDMPipeline,
    LDMSuperResolutionPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionInstructPix2PixPipeline,
    StableDiffusionUpscalePipeline,
    StableDiffusionXLPipeline,
    UNet2DModel,
    VQModel,
)
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from sfumato.testing.tiny import (  # noqa: F401 - tests import all of them from here
    CONTEXT,
    END,
    STABLE_DIFFUSION_BETAS,
    START,
    WIDTH,
    WORDS,
    save_stable_diffusion,
    seeded,
    text_config,
    tiny_image,
    tiny_sd,
    tiny_tokenizer,
    tiny_unet,
    tiny_vae,
)


def tiny_sd2(folder: Path, *, seed: int = 2) -> Path:
    """Stable Diffusion 2.x: v-prediction, gelu text encoder, linear projections, "!" as padding."""
    with seeded(seed):
        tokenizer = tiny_tokenizer(pad="!")
        return save_stable_diffusion(
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
    """InstructPix2Pix: the encoded image beside the latent."""
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
    """Latent diffusion's super-resolution: UNet2DModel with the small image beside a latent of three channels."""
    with seeded(seed):
        vqvae = VQModel(
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            block_out_channels=(8, 8, 16),
            latent_channels=3,
            norm_num_groups=4,
            num_vq_embeddings=32,
        )
        vqvae.quantize.embedding.weight.data.normal_()  # on the scale of latents: the nearest code depends on it
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


@contextmanager
def fused(network: nn.Module, changes: Mapping[str, Tensor]) -> Iterator[None]:
    """A network to whose weights dW is added, by the name of the layer; restored at the end."""
    before = {name: network.get_submodule(name).weight.detach().clone() for name in changes}
    try:
        for name, change in changes.items():
            network.get_submodule(name).weight.data += change
        yield
    finally:
        for name, weight in before.items():
            network.get_submodule(name).weight.data.copy_(weight)
