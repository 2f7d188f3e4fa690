"""Energies of pairs of words: disjoint maps of different objects, and equal maps of an attribute and its object.

    overlap(A, B) = sum min(a, b),   a = A / sum A,   b = B / sum B;   0 for disjoint maps, 1 for equal ones

`ObjectOverlap` is the overlap of two objects, `AttributeBinding` is 1 - overlap of an attribute and its object.
Energies of pairs of words are used in linguistic binding (Rassin et al., arXiv 2306.08877), which compares the maps by
their symmetric Kullback-Leibler divergence. The overlap is bounded and has no gradient where both maps are 0.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.state import StepState
from sfumato.shifts.energy.maps import normalised
from sfumato.shifts.energy.term import Measurement
from sfumato.shifts.energy.word import Word


@dataclass(frozen=True, eq=False)
class ObjectOverlap:
    """Overlap of the maps of objects, averaged over all pairs.

    Attributes:
        words: words of two or more objects.
    """

    words: tuple[Word, ...]

    def measure(self, state: StepState, left: int = 1) -> Measurement:
        """Return the term for one step; see `Term.measure`."""
        readings = [word.read(left) for word in self.words]

        def value(x: Tensor, eps: Tensor) -> Float[Tensor, " b"]:
            maps = [reading.mean() for reading in readings]
            pairs = [overlap(a, b) for i, a in enumerate(maps) for b in maps[:i]]
            return torch.stack(pairs).mean(dim=0)

        return Measurement(value, [reading.tap for reading in readings])


@dataclass(frozen=True, eq=False)
class AttributeBinding:
    """1 - overlap of the maps of an attribute and of its object.

    Attributes:
        attribute: word of the attribute, such as a colour.
        word: word of the object that it describes.
    """

    attribute: Word
    word: Word

    def measure(self, state: StepState, left: int = 1) -> Measurement:
        """Return the term for one step; see `Term.measure`."""
        attribute, word = self.attribute.read(left), self.word.read(left)

        def value(x: Tensor, eps: Tensor) -> Float[Tensor, " b"]:
            return 1 - overlap(attribute.mean(), word.mean())

        return Measurement(value, (attribute.tap, word.tap))


def overlap(A: Float[Tensor, "b 1 h w"], B: Float[Tensor, "b 1 h w"]) -> Float[Tensor, " b"]:
    """Overlap of two maps, 0 to 1, computed after their minimum, the uniform background, is subtracted."""
    a, b = (
        each / (each.sum(dim=(2, 3), keepdim=True) + torch.finfo(each.dtype).tiny) for each in map(normalised, (A, B))
    )
    return torch.minimum(a, b).sum(dim=(1, 2, 3))
