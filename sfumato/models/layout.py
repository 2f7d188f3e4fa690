"""Where the layers of a U-Net lie: which grid an attention layer works on, and the layers of the decoder in order.

A network of L levels works at the latent's size on its first level and at half the size on each further one; the
middle block and the first block of the decoder are on the last.
"""

from dataclasses import dataclass
from typing import Any

from diffusers.models.attention_processor import Attention

from sfumato.errors import BadInput
from sfumato.models.attention import Layers


def grid(unet: Any, name: str, size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the grid that a module works on.

    Args:
        unet: the network.
        name: of a module in one of its blocks, e.g. "up_blocks.1.attentions.0".
        size: height and width of the latent.
    """
    last = len(unet.down_blocks) - 1
    block, index, *_ = name.split(".")
    level = last if block == "mid_block" else int(index) if block == "down_blocks" else last - int(index)
    return size[0] >> level, size[1] >> level


def attention_layers(unet: Any, size: tuple[int, int], *, cross: bool, most_queries: int) -> tuple[str, ...]:
    """The attention layers of one kind whose grid has at most so many cells for a latent of that size.

    Raises:
        BadInput: there is none; says which limit would give one.
    """
    cells = {name: _cells(grid(unet, name, size)) for name, _ in Layers(cross=cross).of(unet)}
    found = tuple(name for name, count in cells.items() if count <= most_queries)
    if not found:
        raise BadInput(
            f"No {'cross' if cross else 'self'}-attention of this model has a grid of at most {most_queries} cells for "
            f"a picture of this size: allow at least {min(cells.values())}."
        )
    return found


def word_layers(unet: Any, size: tuple[int, int]) -> tuple[Layers, tuple[int, int]]:
    """The cross-attention whose maps tell best where a word is, and the height and width of its grid.

    It is that of the level before the last: 16 x 16 in Stable Diffusion at 512 pixels, as in Prompt-to-Prompt's local
    blend. Finer levels look at texture, the last is too coarse. Networks without cross-attention there: the next finer.
    """
    names: dict[tuple[int, int], list[str]] = {}
    for name, _ in Layers(cross=True).of(unet):
        names.setdefault(grid(unet, name, size), []).append(name)
    levels = sorted(names)
    chosen = levels[min(1, len(levels) - 1)]
    return Layers(tuple(names[chosen])), chosen


@dataclass(frozen=True)
class DecoderLayer:
    """One layer of the decoder.

    Attributes:
        residual: name of the last convolution of its residual block, whose output is added to the block's input.
        self_attention: names of its self-attention layers; () where it has none.
    """

    residual: str
    self_attention: tuple[str, ...]


def decoder(unet: Any) -> list[DecoderLayer]:
    """The layers of the decoder from the middle block to the output: 12 in Stable Diffusion, 9 in SDXL."""
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
