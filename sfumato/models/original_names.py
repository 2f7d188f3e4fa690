"""Names of the layers of a U-Net in the original Stable Diffusion repositories, which LoRA files for SDXL use."""

import re
from typing import Any

_RESIDUAL = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_OUTSIDE = {
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}
_MIDDLE = {"resnets.0": 0, "attentions.0": 1, "resnets.1": 2}
_BLOCK = re.compile(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)")


def original_name(unet: Any, name: str) -> str:
    """The original name of a layer of a U-Net, or the given name if the U-Net has no original names.

    Only U-Nets with the same number of layers in all blocks (layers_per_block is a number) have original names.

    The original network numbers residual layers, with their attention, and the layers that change the resolution
    continuously: input_blocks.0 is the first convolution, and every level has layers_per_block + 1 entries.

    Args:
        unet: a UNet2DConditionModel.
        name: name of a module of it, e.g. "down_blocks.1.attentions.0.proj_in".
    """
    if not isinstance(unet.config.layers_per_block, int):
        return name
    if name in _OUTSIDE:
        return _OUTSIDE[name]
    if name.startswith("mid_block."):
        _, part, place, inner = name.split(".", 3)
        return f"middle_block.{_MIDDLE.get(f'{part}.{place}', place)}.{_inside(part, inner)}"
    found = _BLOCK.fullmatch(name)
    if found is None:
        return name
    way, kind, rest = found[1], found[3], found[5]
    level, number, each = int(found[2]), int(found[4]), unet.config.layers_per_block + 1
    if way == "down":
        first = 1 + level * each
        entry = f"input_blocks.{first + (number if kind != 'downsamplers' else each - 1)}"
        return f"{entry}.{int(kind == 'attentions')}.{'op' if kind == 'downsamplers' else _inside(kind, rest)}"
    first = level * each
    if kind == "upsamplers":
        after_attention = bool(getattr(unet.up_blocks[level], "attentions", None))
        return f"output_blocks.{first + each - 1}.{2 if after_attention else 1}.{rest}"
    return f"output_blocks.{first + number}.{int(kind == 'attentions')}.{_inside(kind, rest)}"


def _inside(kind: str, rest: str) -> str:
    """The name inside a residual layer; attention layers have the same names."""
    return _RESIDUAL.get(rest, rest) if kind == "resnets" else rest
