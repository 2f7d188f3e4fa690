"""Energy of the appearance of an object: mean features within its mask (arXiv 2306.00986, section 3)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from sfumato.core.rows import TARGET
from sfumato.core.state import StepState
from sfumato.models.taps import Record
from sfumato.shifts.energy.maps import difference, hard_mask
from sfumato.shifts.energy.term import Measurement
from sfumato.shifts.energy.word import Word

_SMALLEST = 1e-4


@dataclass(frozen=True, eq=False)
class Appearance:
    """L1 distance between the mean features of an object and those of the same object in the source or another image.

    The mean is taken over the hard mask of the word's attention map, which is averaged over layers and detached.

    Attributes:
        word: the word, with its source.
        module: name of the module whose output contains the features, e.g. "up_blocks.2".
    """

    word: Word
    module: str

    def measure(self, state: StepState, left: int = 1) -> Measurement:
        """Return the term for one step; see `Term.measure`."""
        reading = self.word.read(left)
        reference, own = Record(self.module), Record(self.module, TARGET)

        def value(x: Tensor, eps: Tensor) -> Float[Tensor, " b"]:
            target, source = map(torch.stack, zip(*reading.pairs(), strict=True))
            of_target = mean_features(own.output, target.mean(dim=0))
            features = self.word.of_source(reference.output).to(own.output.dtype).expand_as(own.output)
            of_source = mean_features(features, source.mean(dim=0))
            distance = difference(of_target, of_source).mean(dim=1)
            return distance * self.word.present.to(distance)

        return Measurement(value, (reading.tap, self.word.from_source(reference, own, left)))


def mean_features(features: Float[Tensor, "b d h w"], A: Float[Tensor, "b 1 h2 w2"]) -> Float[Tensor, "b d"]:
    """Compute sum M F / sum M, where M is the hard mask of the map A, resized to the features F; at least float32."""
    features = features.to(torch.promote_types(features.dtype, torch.float32))
    mask = hard_mask(F.interpolate(A.detach().to(features.dtype), features.shape[-2:], mode="bilinear"))
    return (mask * features).sum(dim=(2, 3)) / (mask.sum(dim=(2, 3)) + _SMALLEST)
