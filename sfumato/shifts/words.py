"""Cross-attention maps of words: masks by thresholding, and attention re-weighting."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from sfumato.core.rows import TARGET, Rows
from sfumato.core.shift import WORDS, Shift
from sfumato.core.state import StepState
from sfumato.models.attention import Layers, ReplaceMaps


class WordMaps:
    """An attention tap that records the weighted sum of token maps under one condition, averaged over heads.

    Attributes:
        layers: cross-attention layers of the same resolution; see `sfumato.models.layout.word_layers`.
        weights: weight of every token, [b, tokens].
        grid: height and width of the layers' feature maps.
        of: name of the condition whose rows are read.
        maps: maps of the latest evaluation by layer name, [b,1,*grid].
    """

    def __init__(self, layers: Layers, weights: Float[Tensor, "b n"], grid: tuple[int, int], of: str = TARGET) -> None:
        self.layers = layers
        self.weights = weights
        self.grid = grid
        self.of = of
        self.maps: dict[str, Float[Tensor, "b 1 h w"]] = {}

    def emptied(self) -> "WordMaps":
        """Return a tap for the same tokens and layers without recorded maps."""
        return WordMaps(self.layers, self.weights, self.grid, self.of)

    def __call__(self, name: str, cross: bool, maps: Float[Tensor, "rows heads queries n"], rows: Rows) -> None:
        """Record the maps of a layer."""
        if self.of in rows:
            own = maps[rows.of(self.of)]
            own = own.to(torch.promote_types(own.dtype, torch.float32)).mean(dim=1)
            seen = own @ self.weights.to(own)[:, :, None]
            self.maps[name] = seen.transpose(1, 2).unflatten(2, self.grid)


def word_mask(
    maps: Float[Tensor, "b 1 h w"], size: tuple[int, int], threshold: float, mode: str = "bilinear"
) -> Float[Tensor, "b 1 h2 w2"]:
    """Compute a mask from summed word maps: dilated by one cell, interpolated, and thresholded per image.

    The mask is 1 where map - min > threshold (max - min). The authors of Prompt-to-Prompt threshold at a fraction of
    the maximum, which is equivalent if the minimum is close to 0. In small networks the maps have a uniform background,
    which is removed by subtracting the minimum (as in Epstein et al., arXiv 2306.00986).

    Args:
        maps: word maps with any range of values; a constant map gives an empty mask.
        size: height and width of the mask.
        threshold: 0 to 1.
        mode: "bilinear"; or "nearest", as in the authors' code.
    """
    wide = F.interpolate(F.max_pool2d(maps, 3, stride=1, padding=1), size, mode=mode)
    low, high = wide.amin(dim=(1, 2, 3), keepdim=True), wide.amax(dim=(1, 2, 3), keepdim=True)
    return (wide - low > threshold * (high - low)).float()


@dataclass(frozen=True, eq=False)
class Reweight(Shift):
    """Attention re-weighting: multiply the maps of tokens by weights (arXiv 2208.01626, section 3.2).

    Attributes:
        weights: one per token, [b, tokens]; 1 leaves a map unchanged.
    """

    weights: Float[Tensor, "b n"]

    def reads(self, i: int, steps: int) -> tuple[str, ...]:
        """The words of the prompt, whose tokens the weights belong to."""
        return (WORDS,)

    def taps(self, state: StepState) -> ReplaceMaps:
        """Return a tap of every cross-attention layer that scales the maps of the target prompt's rows."""
        return ReplaceMaps(Layers(cross=True), lambda name, maps: maps * self.weights.to(maps)[:, None, None], TARGET)
