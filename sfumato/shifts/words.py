"""Where in a picture a word is: cross-attention maps of its tokens, averaged and thresholded; and re-weighting them."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from sfumato.core.rows import TARGET, Rows
from sfumato.core.shift import Shift
from sfumato.core.state import StepState
from sfumato.models.attention import Layers, ReplaceMaps


class WordMaps:
    """An attention tap that reads the maps of some tokens under one condition, averaged over heads.

    Attributes:
        layers: cross-attention layers that all work on one grid; see `sfumato.models.layout.word_layers`.
        weights: weight of every token, [b, tokens].
        grid: height and width of the grid.
        of: name of the condition whose rows are read.
        maps: of the latest evaluation, layer name to [b,1,*grid].
    """

    def __init__(self, layers: Layers, weights: Float[Tensor, "b n"], grid: tuple[int, int], of: str = TARGET) -> None:
        self.layers = layers
        self.weights = weights
        self.grid = grid
        self.of = of
        self.maps: dict[str, Float[Tensor, "b 1 h w"]] = {}

    def emptied(self) -> "WordMaps":
        """A tap of the same tokens and layers that has read nothing yet."""
        return WordMaps(self.layers, self.weights, self.grid, self.of)

    def __call__(self, name: str, cross: bool, maps: Float[Tensor, "rows heads queries n"], rows: Rows) -> None:
        """Keep a layer's maps."""
        if self.of in rows:
            seen = maps[rows.of(self.of)].float().mean(dim=1) @ self.weights.to(maps.device)[:, :, None]
            self.maps[name] = seen.transpose(1, 2).unflatten(2, self.grid)


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
        """Every cross-attention layer, under the target prompt."""
        return ReplaceMaps(Layers(cross=True), lambda name, maps: maps * self.weights.to(maps)[:, None, None], TARGET)
