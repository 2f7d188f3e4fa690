"""Energy of the position of an object: |centroid(A) - target| (arXiv 2306.00986, section 3)."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from sfumato.shifts.energy.maps import centroid, difference
from sfumato.shifts.energy.word import WordTerm


@dataclass(frozen=True, eq=False)
class Centroid(WordTerm):
    """L1 distance between the centroid of a word's map and its target, averaged over x, y and layers.

    Attributes:
        right: displacement from the centroid in the source, or from that of `place`, as a fraction of the width.
        down: displacement from the centroid in the source, or from that of `place`, as a fraction of the height.
        at: target (x, y) in [0, 1] instead of a displacement; the source is then not used.
    """

    right: float = 0.0
    down: float = 0.0
    at: tuple[float, float] | None = None

    def distance(
        self, own: Float[Tensor, "b 1 h w"], reference: Float[Tensor, "b 1 h w"], place: Float[Tensor, "b 2"]
    ) -> Float[Tensor, " b"]:
        """Compute the term in one layer; see `WordTerm.distance`."""
        return difference(centroid(own), self._target(place)).mean(dim=1)

    def inside(self, reference: Float[Tensor, "b 1 h w"], place: Float[Tensor, "b 2"]) -> Float[Tensor, " b"]:
        """1 if the target lies inside the image, otherwise 0."""
        target = self._target(place)
        return ((target >= 0) & (target <= 1)).all(dim=1).to(target)

    def _target(self, place: Float[Tensor, "b 2"]) -> Float[Tensor, "b 2"]:
        if self.at is not None:
            return place.new_tensor(self.at).expand(len(place), 2)
        return place + place.new_tensor([self.right, self.down])
