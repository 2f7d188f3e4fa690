"""Writes a diffusers folder as one checkpoint in the key layout of the original Stable Diffusion 1.x repository."""

from pathlib import Path

from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextModel

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def write_checkpoint(folder: Path, path: Path) -> Path:
    """Write U-Net, autoencoder and text encoder of a Stable Diffusion 1.x folder to one .safetensors file."""
    unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet", local_files_only=True)
    vae = AutoencoderKL.from_pretrained(folder, subfolder="vae", local_files_only=True)
    text = CLIPTextModel.from_pretrained(folder, subfolder="text_encoder", local_files_only=True)
    weights = {
        **_renamed(unet, _unet_modules(unet), "model.diffusion_model."),
        **_renamed(vae, _vae_modules(vae), "first_stage_model."),
        **{f"cond_stage_model.transformer.text_model.{k}": v for k, v in text.state_dict().items()},
    }
    save_file({name: weight.contiguous() for name, weight in weights.items()}, path)
    return path


def _renamed(network, modules, prefix):
    """The weights of a network under `prefix`, where `modules` maps the longest matching beginnings of names."""
    renamed = {}
    for name, weight in network.state_dict().items():
        old = max((old for old in modules if name.startswith(old + ".")), key=len)
        new = modules[old] + name.removeprefix(old)
        if ".attn_1." in new and weight.ndim == 2:
            weight = weight[:, :, None, None]
        renamed[prefix + new] = weight
    return renamed


def _resnet(old, new, names):
    return {old: new} | {f"{old}.{part}": f"{new}.{name}" for part, name in names.items()}


def _unet_modules(unet):
    modules = {
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "add_embedding.linear_1": "label_emb.0.0",
        "add_embedding.linear_2": "label_emb.0.2",
        "conv_in": "input_blocks.0.0",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
        "mid_block.attentions.0": "middle_block.1",
        **_resnet("mid_block.resnets.0", "middle_block.0", RESNET),
        **_resnet("mid_block.resnets.1", "middle_block.2", RESNET),
    }
    for side, blocks, place in (("down", unet.down_blocks, "input"), ("up", unet.up_blocks, "output")):
        n = 1 if side == "down" else 0
        for i, block in enumerate(blocks):
            attentions = len(getattr(block, "attentions", ()))
            for j in range(len(block.resnets)):
                new = f"{place}_blocks.{n + j}"
                modules |= _resnet(f"{side}_blocks.{i}.resnets.{j}", f"{new}.0", RESNET)
                if attentions:
                    modules[f"{side}_blocks.{i}.attentions.{j}"] = f"{new}.1"
            n += len(block.resnets)
            if side == "down" and block.downsamplers:
                modules[f"down_blocks.{i}.downsamplers.0.conv"] = f"input_blocks.{n}.0.op"
                n += 1
            if side == "up" and block.upsamplers:
                place_in_block = 2 if attentions else 1
                modules[f"up_blocks.{i}.upsamplers.0.conv"] = f"output_blocks.{n - 1}.{place_in_block}.conv"
    return modules


def _vae_modules(vae):
    levels = len(vae.config.block_out_channels)
    modules = {"quant_conv": "quant_conv", "post_quant_conv": "post_quant_conv"}
    for side, blocks, short in (("encoder", "down_blocks", "down"), ("decoder", "up_blocks", "up")):
        modules |= {
            f"{side}.conv_in": f"{side}.conv_in",
            f"{side}.conv_out": f"{side}.conv_out",
            f"{side}.conv_norm_out": f"{side}.norm_out",
            **_resnet(f"{side}.mid_block.attentions.0", f"{side}.mid.attn_1", VAE_ATTENTION),
        }
        for j in (0, 1):
            modules[f"{side}.mid_block.resnets.{j}"] = f"{side}.mid.block_{j + 1}"
        for i in range(levels):
            new = f"{side}.{short}.{i if short == 'down' else levels - 1 - i}"
            old = f"{side}.{blocks}.{i}"
            modules[f"{old}.{short}samplers.0"] = f"{new}.{short}sample"
            for j in range(3):
                modules |= _resnet(f"{old}.resnets.{j}", f"{new}.block.{j}", {"conv_shortcut": "nin_shortcut"})
    return modules
