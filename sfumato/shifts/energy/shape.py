"""Shape of an object: |soft mask - target mask|, arXiv 2306.00986, section 3."""

from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from sfumato.shifts.energy.maps import Warp, centroid, difference, hard_mask, soft_mask
from sfumato.shifts.energy.word import WordTerm


@dataclass(frozen=True, eq=False)
class Shape(WordTerm):
    """L1 distance of the soft mask of a word to the hard mask of the source, warped; averaged over cells and layers.

    Attributes:
        warp: where the object of the source is to be, and how large; by default where it is, or at `place`.
    """

    warp: Warp = field(default_factory=Warp)

    def distance(
        self, own: Float[Tensor, "b 1 h w"], reference: Float[Tensor, "b 1 h w"], place: Float[Tensor, "b 2"]
    ) -> Float[Tensor, " b"]:
        """The term in one layer."""
        target = self.warp.apply(hard_mask(reference), centroid(reference), place)
        return difference(soft_mask(own), target).mean(dim=(1, 2, 3))
