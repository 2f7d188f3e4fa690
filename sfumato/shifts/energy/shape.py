"""Energy of the shape of an object: |soft mask - target mask| (arXiv 2306.00986, section 3)."""

from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from sfumato.shifts.energy.maps import centroid, difference, hard_mask, share_inside, soft_mask, warped
from sfumato.shifts.energy.warp import Warp
from sfumato.shifts.energy.word import WordTerm


@dataclass(frozen=True, eq=False)
class Shape(WordTerm):
    """L1 distance between the soft mask of a word and the warped hard mask of the source.

    The distance is averaged over positions and layers.

    Attributes:
        warp: affine map of the source's mask about its centroid, which is moved to that of `place` if that is given;
            the identity by default.
    """

    warp: Warp = field(default_factory=Warp)

    def distance(
        self, own: Float[Tensor, "b 1 h w"], reference: Float[Tensor, "b 1 h w"], place: Float[Tensor, "b 2"]
    ) -> Float[Tensor, " b"]:
        """Compute the term in one layer; see `WordTerm.distance`."""
        target = warped(hard_mask(reference), self.warp, centroid(reference), place)
        return difference(soft_mask(own), target).mean(dim=(1, 2, 3))

    def inside(self, reference: Float[Tensor, "b 1 h w"], place: Float[Tensor, "b 2"]) -> Float[Tensor, " b"]:
        """Share of the target mask that lies inside the image."""
        return share_inside(hard_mask(reference), self.warp, centroid(reference), place)
