"""Cross-attention maps of a word in the source and in the target, recorded during one evaluation of each.

The source is the inverted image of each row, or one reference image for all rows (`sfumato.models.references`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.notes import note
from sfumato.core.rows import SOURCE, TARGET
from sfumato.core.state import StepState
from sfumato.models.attention import Layers
from sfumato.models.references import References
from sfumato.models.taps import AnyTap, FromSource
from sfumato.shifts.energy.maps import centroid, note_coarse
from sfumato.shifts.energy.term import Measurement
from sfumato.shifts.words import WordMaps


@dataclass(frozen=True, eq=False)
class Word:
    """A word or phrase. Images whose prompts do not contain it have weights of 0; their energy is 0.

    Attributes:
        layers: cross-attention layers of the same resolution.
        grid: height and width of their feature maps.
        target: weight of every token of the target prompt, [b, tokens].
        source: weight of every token of the source prompt, [b, tokens]; with `images`, of the prompts of all reference
            images, [n, tokens]; None if no source is used.
        images: reference images, one of which is the source of all rows; None for the inverted images.
        row: index of that reference image.
        name: the word or phrase, for messages.
    """

    layers: Layers
    grid: tuple[int, int]
    target: Float[Tensor, "b n"]
    source: Float[Tensor, "m n"] | None = None
    images: References | None = None
    row: int = 0
    name: str = ""

    @property
    def present(self) -> Float[Tensor, " b"]:
        """1 for images whose prompts (target and, if used, source) contain the word, 0 for the others."""
        found = self.target.sum(dim=1) > 0
        return (found if self.source is None else found & (self.of_source(self.source).sum(dim=1) > 0)).float()

    def of_source(self, values: Float[Tensor, "m ..."]) -> Float[Tensor, "k ..."]:
        """Select the rows of the source from an evaluation: all rows, or that of the reference image."""
        return values if self.images is None else values[self.row : self.row + 1]

    def from_source(self, reference: AnyTap, own: AnyTap, left: int) -> FromSource:
        """Return a pair of taps for the source and the target; `left` as in `Term.measure`."""
        return FromSource(reference, own, left, images=self.images)

    def read(self, left: int = 1) -> "Reading":
        """Return taps that record the maps of the word in one step; `left` as in `Term.measure`."""
        note_coarse(self.grid)
        own = WordMaps(self.layers, self.target, self.grid, TARGET)
        if self.source is None:
            return Reading(self, own, None, own)
        reference = WordMaps(self.layers, self.source, self.grid, SOURCE)
        return Reading(self, own, reference, self.from_source(reference, own, left))


@dataclass(frozen=True, eq=False)
class WordTerm:
    """Base class of terms that compare the map of a word with that of the source, averaged over layers.

    Attributes:
        word: the word.
        place: another word of the source, whose centroid is the reference position; by default the word itself.
    """

    word: Word
    place: Word | None = field(default=None, kw_only=True)

    @property
    def compares_places(self) -> bool:
        """Whether the term compares positions in the target with those in the inverted image."""
        return self.word.source is not None and self.word.images is None

    def measure(self, state: StepState, left: int = 1) -> Measurement:
        """Return the term for one step; see `Term.measure`."""
        reading = self.word.read(left)
        there = reading if self.place is None else self.place.read(left)

        def value(x: Tensor, eps: Tensor) -> Float[Tensor, " b"]:
            pairs = zip(reading.pairs(), there.pairs(), strict=True)
            layers = [(own, reference, centroid(place)) for (own, reference), (_, place) in pairs]
            self._note_outside([self.inside(reference, place) for _, reference, place in layers])
            distance = torch.stack([self.distance(*layer) for layer in layers]).mean(dim=0)
            return distance * self.word.present.to(distance)

        return Measurement(value, [reading.tap] if there is reading else [reading.tap, there.tap])

    def distance(
        self, own: Float[Tensor, "b 1 h w"], reference: Float[Tensor, "b 1 h w"], place: Float[Tensor, "b 2"]
    ) -> Float[Tensor, " b"]:
        """Compute the term in one layer.

        Args:
            own: map of the target.
            reference: map of the source.
            place: reference position (x, y): the centroid of `place`, or of the word itself, in the source.
        """
        raise NotImplementedError

    def inside(self, reference: Float[Tensor, "b 1 h w"], place: Float[Tensor, "b 2"]) -> Float[Tensor, " b"]:
        """Compute the share of the target that lies inside the image, 0 to 1, in one layer.

        The arguments are those of `distance`.
        """
        return torch.ones_like(place[:, 0])

    def _note_outside(self, inside: Sequence[Float[Tensor, " b"]]) -> None:
        share = torch.stack(list(inside)).mean(dim=0)
        if bool(((share < 0.5) & (self.word.present.to(share) > 0)).any()):
            note(
                f'More than half of the target of "{self.word.name}" lies outside the image: choose a smaller '
                "displacement or size."
            )


@dataclass(frozen=True, eq=False)
class Reading:
    """The recorded maps of a word.

    Attributes:
        word: the word.
        own: maps of the target, with gradient history.
        reference: maps of the source, or None.
        tap: the tap to install.
    """

    word: Word
    own: WordMaps
    reference: WordMaps | None
    tap: WordMaps | FromSource = field(repr=False)

    def mean(self) -> Float[Tensor, "b 1 h w"]:
        """Return the map of the target, averaged over layers."""
        return torch.stack(list(self.own.maps.values())).mean(dim=0)

    def pairs(self) -> Iterator[tuple[Float[Tensor, "b 1 h w"], Float[Tensor, "b 1 h w"]]]:
        """Yield the maps (target, source) of each layer; without a source, the target's map is returned for both."""
        for name, own in self.own.maps.items():
            if self.reference is None:
                yield own, own.detach()
            else:
                yield own, self.word.of_source(self.reference.maps[name]).to(own.dtype).expand_as(own)
