"""Energy of the size of an object: |size(A) - target| (arXiv 2306.00986, section 3)."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from sfumato.shifts.energy.maps import difference, size
from sfumato.shifts.energy.word import WordTerm


@dataclass(frozen=True, eq=False)
class Size(WordTerm):
    """Absolute difference between the area of a word's map, as a fraction of the image, and its target.

    The difference is averaged over layers.

    Attributes:
        factor: target as a factor of the area in the source.
        share: target as a fraction of the image, 0 to 1, instead of a factor; the source is then not used.
    """

    factor: float = 1.0
    share: float | None = None

    @property
    def compares_places(self) -> bool:
        """False, as the area does not depend on the position."""
        return False

    def distance(
        self, own: Float[Tensor, "b 1 h w"], reference: Float[Tensor, "b 1 h w"], place: Float[Tensor, "b 2"]
    ) -> Float[Tensor, " b"]:
        """Compute the term in one layer; see `WordTerm.distance`."""
        target = self.factor * size(reference) if self.share is None else own.new_tensor(self.share)
        return difference(size(own), target)

    def inside(self, reference: Float[Tensor, "b 1 h w"], place: Float[Tensor, "b 2"]) -> Float[Tensor, " b"]:
        """Area of the image as a share of the target, at most 1."""
        target = (
            self.factor * size(reference) if self.share is None else reference.new_full(reference.shape[:1], self.share)
        )
        return 1 / target.clamp(min=1)
