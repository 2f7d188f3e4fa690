"""Queries of a search: content and style descriptors with weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from sfumato.errors import BadInput
from sfumato.retrieval.files import ImageFile
from sfumato.retrieval.index import ImageIndex
from sfumato.style.describers import MODALITIES, Describers, Vectors

_GIVE = {"content": "an image of the content or a text", "style": "a style image or style words"}
"""What gives a query of each modality, for messages."""


@dataclass(frozen=True, eq=False)
class Query:
    """Descriptors that a search compares images with, and the weight of each modality.

    The score of an image is the weighted mean of its cosines, sum_m w_m cos_m / sum_m w_m, in [-1, 1].

    Attributes:
        vectors: unit descriptor [d] by modality; only modalities with a weight above 0.
        weights: their weights, which sum to 1.
    """

    vectors: Mapping[str, Vectors]
    weights: Mapping[str, float]

    @classmethod
    def of(cls, vectors: Mapping[str, Vectors], weights: Mapping[str, float]) -> "Query":
        """A query of unit descriptors with weights of any sum.

        Raises:
            BadInput: `vectors` is empty, a weight is negative or that of another modality, or all weights are 0.
        """
        if not vectors:
            raise BadInput("There is nothing to search for: give an image, a text, a style image or style words.")
        for name in weights:
            if name not in vectors:
                raise BadInput(
                    f"There is a weight of the {name}, but no {name} to search for: give an image, {_GIVE[name]}, or "
                    "leave the weight out."
                )
        given = {name: float(weights.get(name, 1.0)) for name in vectors}
        for name, weight in given.items():
            if not 0 <= weight < float("inf"):
                raise BadInput(f"The weight of the {name} must be a number of at least 0, not {weight:g}.")
        total = sum(given.values())
        if total == 0:
            raise BadInput("The weights of the search are all 0: give one of them a larger weight.")
        kept = {name: weight / total for name, weight in given.items() if weight}
        return cls({name: vectors[name] for name in kept}, kept)

    @property
    def modalities(self) -> list[str]:
        """The modalities of the query, content first."""
        return [name for name in MODALITIES if name in self.vectors]


@dataclass(frozen=True)
class QueryPart:
    """The images and texts of a query for one modality; their descriptors are averaged with equal weights.

    Attributes:
        images: the images.
        texts: captions for the content, style words for the style.
    """

    images: Sequence[ImageFile] = field(default_factory=tuple)
    texts: Sequence[str] = field(default_factory=tuple)

    def vector(self, describers: Describers, modality: str, index: ImageIndex | None = None) -> Vectors | None:
        """Mean of the descriptors, normalised to length 1, [d]; None if there are no images and texts.

        Args:
            describers: the encoders.
            modality: "content" or "style".
            index: index from which the descriptors of its images are read instead of being computed; may be None.

        Raises:
            BadInput: an image or a text cannot be used, or the mean is 0.
        """
        found: list[Vectors] = []
        stored = {} if index is None or not index.made_by(describers, modality) else index.stored(self.images, modality)
        found += [stored[image.path][None] for image in self.images if image.path in stored]
        if others := [image for image in self.images if image.path not in stored]:
            size = describers.of(modality).size
            found.append(describers.images(modality, [image.squares([size])[0] for image in others]))
        if self.texts:
            found.append(describers.texts(modality, self.texts))
        return unit(np.concatenate(found).mean(axis=0)) if found else None


def unit(vector: Vectors) -> Vectors:
    """Normalise a vector to length 1. Raises BadInput if its length is nearly 0."""
    length = float(np.linalg.norm(vector))
    if length < 1e-6:
        raise BadInput("The mean of the query descriptors is zero: give fewer of them.")
    return (vector / length).astype(np.float32)
