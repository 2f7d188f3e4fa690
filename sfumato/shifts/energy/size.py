"""Size of an object: |size(A) - target|, arXiv 2306.00986, eq. 5."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.state import StepState
from sfumato.shifts.energy.maps import difference, size
from sfumato.shifts.energy.term import Measurement
from sfumato.shifts.energy.word import Word


@dataclass(frozen=True, eq=False)
class Size:
    """Absolute difference of the share of the image that a word covers to its target, averaged over layers.

    Attributes:
        word: the word.
        factor: target as a factor of the source's area.
        share: target as a share of the image, 0 to 1, instead of a factor; then the source is not needed.
    """

    word: Word
    factor: float = 1.0
    share: float | None = None

    def measure(self, state: StepState) -> Measurement:
        """The term in one step."""
        reading = self.word.read(state)

        def value(x: Tensor, eps: Tensor) -> Float[Tensor, " b"]:
            distance = torch.stack([self._distance(*maps) for maps in reading.pairs()]).mean(dim=0)
            return distance * self.word.present.to(distance)

        return Measurement(value, (reading.tap,))

    def _distance(self, own: Float[Tensor, "b 1 h w"], reference: Float[Tensor, "b 1 h w"]) -> Float[Tensor, " b"]:
        target = self.factor * size(reference) if self.share is None else own.new_tensor(self.share)
        return difference(size(own), target)
