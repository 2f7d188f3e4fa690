"""Positions of layers in a U-Net: the resolution of an attention layer, and the layers of the decoder in order.

The first level of a U-Net works at the size of the latent, and each further level at half the size of the previous one.
The middle block and the first block of the decoder are on the last level.
"""

from dataclasses import dataclass
from typing import Any

from diffusers.models.attention_processor import Attention

from sfumato.errors import BadInput
from sfumato.models.attention import Layers


def grid(unet: Any, name: str, size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the feature maps of a module.

    Args:
        unet: the U-Net.
        name: name of a module in one of its blocks, e.g. "up_blocks.1.attentions.0".
        size: height and width of the latent.
    """
    last = len(unet.down_blocks) - 1
    block, index, *_ = name.split(".")
    level = last if block == "mid_block" else int(index) if block == "down_blocks" else last - int(index)
    return size[0] >> level, size[1] >> level


def attention_layers(unet: Any, size: tuple[int, int], *, cross: bool, most_queries: int) -> tuple[str, ...]:
    """Names of the cross- or self-attention layers with at most `most_queries` queries for a latent of this size.

    Raises:
        BadInput: there is no such layer; the message gives the smallest possible limit.
    """
    cells = {name: _cells(grid(unet, name, size)) for name, _ in Layers(cross=cross).of(unet)}
    found = tuple(name for name, count in cells.items() if count <= most_queries)
    if not found:
        raise BadInput(
            f"No {'cross' if cross else 'self'}-attention layer of this model has at most {most_queries} queries, "
            f"the cells of its feature map, for an image of this size: allow at least {min(cells.values())}."
        )
    return found


def word_layers(unet: Any, size: tuple[int, int]) -> tuple[Layers, tuple[int, int]]:
    """The cross-attention layers whose maps are used to locate words, and the height and width of their feature maps.

    These are the layers with the second smallest feature maps: 16 x 16 in Stable Diffusion at 512 pixels, as in
    Prompt-to-Prompt's local blend. The maps of higher-resolution layers depend on texture, and the smallest maps are
    too coarse. If all layers have the same resolution, all are used.
    """
    names: dict[tuple[int, int], list[str]] = {}
    for name, _ in Layers(cross=True).of(unet):
        names.setdefault(grid(unet, name, size), []).append(name)
    levels = sorted(names)
    chosen = levels[min(1, len(levels) - 1)]
    return Layers(tuple(names[chosen])), chosen


@dataclass(frozen=True)
class DecoderLayer:
    """One layer of the decoder: a residual block with its self-attention layers.

    Attributes:
        residual: name of the last convolution of the residual block, whose output is added to the block's input.
        self_attention: names of the self-attention layers; may be ().
    """

    residual: str
    self_attention: tuple[str, ...]


def decoder(unet: Any) -> list[DecoderLayer]:
    """The layers of the decoder, from the middle block to the output: 12 in Stable Diffusion, 9 in SDXL."""
    modules = dict(unet.named_modules())
    own = [n for n, m in modules.items() if isinstance(m, Attention) and not m.is_cross_attention]
    layers = []
    for b, block in enumerate(unet.up_blocks):
        for r in range(len(block.resnets)):
            place = f"up_blocks.{b}.attentions.{r}"
            inside = tuple(name for name in own if name == place or name.startswith(f"{place}."))
            layers.append(DecoderLayer(f"up_blocks.{b}.resnets.{r}.conv2", inside))
    return layers


def _cells(size: tuple[int, int]) -> int:
    return size[0] * size[1]
