"""Position of an object: |centroid(A) - target|, arXiv 2306.00986, section 3."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from sfumato.shifts.energy.maps import centroid, difference
from sfumato.shifts.energy.word import WordTerm


@dataclass(frozen=True, eq=False)
class Centroid(WordTerm):
    """L1 distance of the centroid of a word's map to its target, averaged over x, y and layers.

    Attributes:
        right: displacement from the source's centroid, or that of `place`, as a share of the width.
        down: displacement from the source's centroid, or that of `place`, as a share of the height.
        at: target (x, y) in [0, 1] instead of a displacement; then the source is not needed.
    """

    right: float = 0.0
    down: float = 0.0
    at: tuple[float, float] | None = None

    def distance(
        self, own: Float[Tensor, "b 1 h w"], reference: Float[Tensor, "b 1 h w"], place: Float[Tensor, "b 2"]
    ) -> Float[Tensor, " b"]:
        """The term in one layer."""
        if self.at is not None:
            target = own.new_tensor(self.at).expand(len(own), 2)
        else:
            target = place + own.new_tensor([self.right, self.down])
        return difference(centroid(own), target).mean(dim=1)
