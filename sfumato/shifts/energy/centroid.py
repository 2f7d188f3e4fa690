"""Position of an object: |centroid(A) - target|, arXiv 2306.00986, eq. 4 and 9."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.state import StepState
from sfumato.shifts.energy.maps import centroid, difference
from sfumato.shifts.energy.term import Measurement
from sfumato.shifts.energy.word import Word


@dataclass(frozen=True, eq=False)
class Centroid:
    """L1 distance of the centroid of a word's map to its target, averaged over x, y and layers.

    Attributes:
        word: the word.
        right: displacement from the source's centroid, as a share of the width.
        down: displacement from the source's centroid, as a share of the height.
        at: target (x, y) in [0, 1] instead of a displacement; then the source is not needed.
    """

    word: Word
    right: float = 0.0
    down: float = 0.0
    at: tuple[float, float] | None = None

    def measure(self, state: StepState) -> Measurement:
        """The term in one step."""
        reading = self.word.read(state)

        def value(x: Tensor, eps: Tensor) -> Float[Tensor, " b"]:
            distance = torch.stack([self._distance(*maps) for maps in reading.pairs()]).mean(dim=0)
            return distance * self.word.present.to(distance)

        return Measurement(value, (reading.tap,))

    def _distance(self, own: Float[Tensor, "b 1 h w"], reference: Float[Tensor, "b 1 h w"]) -> Float[Tensor, " b"]:
        if self.at is not None:
            target = own.new_tensor(self.at).expand(len(own), 2)
        else:
            target = centroid(reference) + own.new_tensor([self.right, self.down])
        return difference(centroid(own), target).mean(dim=1)
