"""Shape of an object: |soft mask - target mask|, arXiv 2306.00986, eq. 6."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.state import StepState
from sfumato.shifts.energy.maps import Warp, centroid, difference, hard_mask, soft_mask
from sfumato.shifts.energy.term import Measurement
from sfumato.shifts.energy.word import Word


@dataclass(frozen=True, eq=False)
class Shape:
    """L1 distance of the soft mask of a word to the hard mask of the source, warped; averaged over cells and layers.

    Attributes:
        word: the word, with the source.
        warp: where the object of the source is to be, and how large; by default where it is.
    """

    word: Word
    warp: Warp = field(default_factory=Warp)

    def measure(self, state: StepState) -> Measurement:
        """The term in one step."""
        reading = self.word.read(state)

        def value(x: Tensor, eps: Tensor) -> Float[Tensor, " b"]:
            distance = torch.stack([self._distance(*maps) for maps in reading.pairs()]).mean(dim=0)
            return distance * self.word.present.to(distance)

        return Measurement(value, (reading.tap,))

    def _distance(self, own: Float[Tensor, "b 1 h w"], reference: Float[Tensor, "b 1 h w"]) -> Float[Tensor, " b"]:
        target = self.warp.apply(hard_mask(reference), centroid(reference))
        return difference(soft_mask(own), target).mean(dim=(1, 2, 3))
