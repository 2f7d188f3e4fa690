"""Where in a picture a word is: cross-attention maps of its tokens, averaged and thresholded; and how strong it is."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from sfumato.core.shift import Shift
from sfumato.core.state import StepState
from sfumato.models.attention import Layers, ReplaceMaps


class WordMaps:
    """An attention tap that adds up the maps of some tokens, over heads, layers and evaluations.

    Nothing but the sum is kept. The maps are those of the last rows, which under guidance are the conditional ones.

    Attributes:
        layers: cross-attention layers that all work on one grid; see `sfumato.models.layout.word_layers`.
        weights: weight of every token, [b, tokens].
        grid: height and width of the grid.
        total: the sum so far, [b,1,*grid]; None before the first evaluation.
    """

    def __init__(self, layers: Layers, weights: Float[Tensor, "b n"], grid: tuple[int, int]) -> None:
        self.layers = layers
        self.weights = weights
        self.grid = grid
        self.total: Tensor | None = None

    def __call__(self, name: str, cross: bool, maps: Float[Tensor, "rows heads queries n"]) -> None:
        """Add a layer's maps."""
        seen = maps[-len(self.weights) :].float().mean(dim=1) @ self.weights.to(maps.device)[:, :, None]
        seen = seen.transpose(1, 2).unflatten(2, self.grid)
        self.total = seen if self.total is None else self.total + seen

    def mask(self, size: tuple[int, int], threshold: float) -> Float[Tensor, "b 1 h w"]:
        """1 where the words are, 0 elsewhere; `size` is (height, width), see `word_mask`."""
        assert self.total is not None, "no evaluation was looked at"
        return word_mask(self.total, size, threshold)


def word_mask(maps: Float[Tensor, "b 1 h w"], size: tuple[int, int], threshold: float) -> Float[Tensor, "b 1 h2 w2"]:
    """A mask from summed word maps: widened by one cell, enlarged, cut at a share of each image's range.

    The authors of Prompt-to-Prompt cut at a share of the largest value, which is the same where the smallest is
    nearly 0. In small networks words also attend to what is not theirs, evenly; counting from the smallest value
    (as Epstein et al., arXiv 2306.00986, do) leaves that out.

    Args:
        maps: any range; a flat map gives an empty mask.
        size: height and width of the mask.
        threshold: 0 to 1.
    """
    wide = F.interpolate(F.max_pool2d(maps, 3, stride=1, padding=1), size, mode="bilinear")
    low, high = wide.amin(dim=(1, 2, 3), keepdim=True), wide.amax(dim=(1, 2, 3), keepdim=True)
    return (wide - low > threshold * (high - low)).float()


@dataclass(frozen=True, eq=False)
class Reweight(Shift):
    """The maps of tokens multiplied by weights: a word means more or less (arXiv 2208.01626, section 3.2).

    Attributes:
        weights: one per token, 1 for those that stay, [b, tokens].
    """

    weights: Float[Tensor, "b n"]

    def taps(self, state: StepState) -> ReplaceMaps:
        """Every cross-attention layer, the conditional half."""
        return ReplaceMaps(Layers(cross=True), self._moved)

    def _moved(self, name: str, maps: Float[Tensor, "rows heads queries n"]) -> Float[Tensor, "rows heads queries n"]:
        rows = len(self.weights)
        return torch.cat([maps[:-rows], maps[-rows:] * self.weights.to(maps)[:, None, None]])
