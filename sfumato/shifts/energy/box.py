"""Energy of the box of an object: |soft mask - mask of the box|.

This is the energy of the shape of arXiv 2306.00986, section 3, with a given mask in place of that of the source.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.shifts.energy.maps import difference, soft_mask
from sfumato.shifts.energy.word import WordTerm

Edges = tuple[float, float, float, float]
"""Left, top, right and bottom of a box, as fractions of the width and height, 0 to 1."""


@dataclass(frozen=True, eq=False)
class Box(WordTerm):
    """L1 distance between the soft mask of a word and the mask of a box, averaged over positions and layers.

    The source is not used.

    Attributes:
        edges: the box.
    """

    edges: Edges = (0.0, 0.0, 1.0, 1.0)

    @property
    def compares_places(self) -> bool:
        """False, as the box does not depend on the source."""
        return False

    def distance(
        self, own: Float[Tensor, "b 1 h w"], reference: Float[Tensor, "b 1 h w"], place: Float[Tensor, "b 2"]
    ) -> Float[Tensor, " b"]:
        """Compute the term in one layer; see `WordTerm.distance`."""
        return difference(soft_mask(own), box_mask(own, self.edges)).mean(dim=(1, 2, 3))


def box_mask(A: Float[Tensor, "b 1 h w"], edges: Edges) -> Float[Tensor, "h w"]:
    """Compute the share of every cell of a map that lies in a box, 0 to 1."""
    left, top, right, bottom = edges
    columns, rows = _covered(A, A.shape[-1], left, right), _covered(A, A.shape[-2], top, bottom)
    return rows[:, None] * columns


def _covered(like: Tensor, cells: int, low: float, high: float) -> Float[Tensor, " n"]:
    """The share of each of `cells` equal parts of [0, 1] that lies in [low, high]."""
    start = torch.arange(cells, dtype=like.dtype, device=like.device)
    return ((start + 1).clamp(max=high * cells) - start.clamp(min=low * cells)).clamp(min=0)
