"""A word in the source and in the target: the cross-attention maps of its tokens, read in one evaluation of each."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.rows import SOURCE, TARGET
from sfumato.core.state import StepState
from sfumato.models.attention import Layers
from sfumato.models.taps import FromSource
from sfumato.shifts.energy.term import Measurement
from sfumato.shifts.words import WordMaps


@dataclass(frozen=True, eq=False)
class Word:
    """A word or phrase. Images whose prompts do not contain it have weights of 0; their energy is 0.

    Attributes:
        layers: cross-attention layers of the same resolution.
        grid: height and width of their feature maps.
        target: weight of every token of the target prompt, [b, tokens].
        source: weight of every token of the source prompt, [b, tokens]; None if the source is not read.
    """

    layers: Layers
    grid: tuple[int, int]
    target: Float[Tensor, "b n"]
    source: Float[Tensor, "b n"] | None = None

    @property
    def present(self) -> Float[Tensor, " b"]:
        """1 for images whose prompts contain the word, else 0."""
        found = self.target.sum(dim=1) > 0
        return (found if self.source is None else found & (self.source.sum(dim=1) > 0)).float()

    def read(self, state: StepState) -> "Reading":
        """Taps for one step."""
        own = WordMaps(self.layers, self.target, self.grid, TARGET)
        if self.source is None:
            return Reading(own, None, own)
        reference = WordMaps(self.layers, self.source, self.grid, SOURCE)
        return Reading(own, reference, FromSource(reference, own, state.steps - state.i))


@dataclass(frozen=True, eq=False)
class WordTerm:
    """Base of terms that compare the map of a word with that of the source, averaged over layers.

    Attributes:
        word: the word.
    """

    word: Word

    def measure(self, state: StepState) -> Measurement:
        """The term in one step."""
        reading = self.word.read(state)

        def value(x: Tensor, eps: Tensor) -> Float[Tensor, " b"]:
            distance = torch.stack([self.distance(*maps) for maps in reading.pairs()]).mean(dim=0)
            return distance * self.word.present.to(distance)

        return Measurement(value, (reading.tap,))

    def distance(self, own: Float[Tensor, "b 1 h w"], reference: Float[Tensor, "b 1 h w"]) -> Float[Tensor, " b"]:
        """The term for the maps of the target and of the source in one layer."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class Reading:
    """What the taps of a word read.

    Attributes:
        own: maps of the target, with gradient history.
        reference: maps of the source, or None.
        tap: the tap to install.
    """

    own: WordMaps
    reference: WordMaps | None
    tap: WordMaps | FromSource = field(repr=False)

    def mean(self) -> Float[Tensor, "b 1 h w"]:
        """The map of the target, averaged over layers."""
        return torch.stack(list(self.own.maps.values())).mean(dim=0)

    def pairs(self) -> Iterator[tuple[Float[Tensor, "b 1 h w"], Float[Tensor, "b 1 h w"]]]:
        """The map of the target and of the source, layer by layer; twice the target's without a source."""
        for name, own in self.own.maps.items():
            yield own, own.detach() if self.reference is None else self.reference.maps[name].to(own.dtype)
