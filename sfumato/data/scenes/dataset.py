"""A dataset of scenes that are composed on access: scene i is a function of (seed, i)."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.data.corpus import TABLE
from sfumato.data.dataset import CaptionedImages
from sfumato.data.pixels import centred_box, open_drawing
from sfumato.data.scenes.captions import caption, varied
from sfumato.data.scenes.grounds import GROUNDS, lost_share
from sfumato.data.scenes.layout import Box, arrange, check_count
from sfumato.data.scenes.scene import Scene, SceneObject, compose
from sfumato.data.splits import Split
from sfumato.errors import BadInput

#: Probabilities of one, two and three objects in a scene.
_COUNTS = (0.2, 0.55, 0.25)
#: Fraction of scenes with a coloured background.
_COLOURED = 0.4
#: Largest fraction of a cut-out's pixels that may have a low contrast to the background (`lost_share`).
_MOST_LOST = 0.25
#: Keywords of more emoji than this ("face", "animal") are too general to replace a name.
_MOST_SHARED = 8
#: Seed and number of the held-out scenes of each split, on which models are evaluated.
HELD_OUT_SEED, HELD_OUT_COUNT = 20, 500


@dataclass(frozen=True)
class _Plan:
    """The composition of a scene: indices of its images, boxes, background and style."""

    rows: tuple[int, ...]
    boxes: tuple[Box, ...]
    ground: str
    style: str


class Scenes:
    """Dataset of single images followed by `count` scenes composed of their cut-outs.

    Items 0 to len(images) - 1 are the images of `CaptionedImages`: one object that fills the canvas, on white. The
    others are scenes of one to three objects in one style, on white or a plain colour.

    Args:
        single_images: images of an emoji corpus; their files are read again to cut the objects out.
        folder: folder of the corpus.
        count: number of scenes, at least 0.
        seed: scene i is a function of (seed, i).
        share: share of the samples that are scenes, in [0, 1] (`sampling_weights`).

    Raises:
        BadInput: the images have no bounding boxes, or `count` is negative.
    """

    def __init__(
        self, single_images: CaptionedImages, folder: str | Path, count: int, seed: int = 0, share: float = 0.5
    ) -> None:
        if "bbox" not in single_images.table.column_names:
            raise BadInput(
                f"{folder} has no cut-outs to compose scenes of: it contains no {TABLE} with bounding boxes. "
                "Build a corpus with `sfumato data emoji`, or train without scenes."
            )
        if count < 0:
            raise BadInput(f"the number of scenes must be 0 or more, not {count}.")
        check_count(len(_COUNTS))
        self.single_images, self.count, self.seed, self.share = single_images, count, seed, share if count else 0.0
        self.size = single_images.images.shape[-1]
        self._rows = single_images.table.to_pylist()
        self._names = [row["name"] for row in self._rows]
        self._keywords = _specific_keywords(self._rows)
        self._cutouts = [_cutout(Path(folder, row["file"]), row["bbox"]) for row in self._rows]
        self._lost = np.array([lost_share(cutout) for cutout in self._cutouts])
        self._by_style = _by_style(self._rows)

    @classmethod
    def held_out(cls, folder: str | Path, split: Split, size: int = 128, **choice: object) -> "Scenes":
        """The fixed `HELD_OUT_COUNT` scenes on which models are evaluated.

        Args:
            folder: folder of the corpus.
            split: "test" or "cells"; the scenes consist of images of this split.
            size: side of the scenes in pixels.
            choice: further arguments of `CaptionedImages.open`.
        """
        single_images = CaptionedImages.open(folder, size, split=split, **choice)  # type: ignore[arg-type]
        return cls(single_images, folder, HELD_OUT_COUNT, HELD_OUT_SEED)

    def __len__(self) -> int:
        return len(self.single_images) + self.count

    def caption(self, i: int, generator: np.random.Generator | None = None) -> str:
        """Caption of item `i`: the main one, or with a generator a random one (see `sfumato.data.scenes.captions`)."""
        if generator is not None:
            return self.caption_and_words(i, generator)[0]
        plan = self._plan_of(i)
        return caption([self._names[row] for row in plan.rows], plan.ground, plan.style)

    def caption_and_words(self, i: int, generator: np.random.Generator) -> tuple[str, list[str]]:
        """A random caption of item `i`, and the name or keyword of every object in it, in the order of the objects."""
        plan = self._plan_of(i)
        names, keywords = [self._names[row] for row in plan.rows], [self._keywords[row] for row in plan.rows]
        return varied(names, keywords, plan.boxes, plan.ground, plan.style, generator)

    @property
    def names(self) -> list[str]:
        """Name of the emoji in each single image."""
        return self._names

    def texts(self) -> list[str]:
        """Texts to train a tokenizer on: those of the images, and the words for backgrounds and relations."""
        return [*self.single_images.texts(), *GROUNDS, "left of", "right of", "above", "below", "and", "on"]

    def pixels(self, items: Sequence[int]) -> NDArray[np.uint8]:
        """The images and scenes with the indices `items`: uint8 [n,3,size,size], sRGB."""
        alone = len(self.single_images)
        return np.stack([self.single_images.images[i] if i < alone else self.scene(i - alone).image for i in items])

    def sampling_weights(self) -> NDArray[np.float64]:
        """Sampling probability of each item: float64 [n], sum 1. The scenes together have probability `share`.

        Among the single images every emoji has the same probability.
        """
        alone = self.single_images.sampling_weights()
        return np.concatenate([(1 - self.share) * alone, np.full(self.count, self.share / max(1, self.count))])

    def scene(self, i: int) -> Scene:
        """Compose scene `i`, 0 to count - 1, with the boxes and masks of its objects."""
        plan = self._plan(i)
        image, masks = compose([self._cutouts[row] for row in plan.rows], plan.boxes, plan.ground, self.size)
        objects = map(self._object, plan.rows, plan.boxes, masks)
        return Scene(image, plan.style, plan.ground, tuple(objects))

    def masks(self, i: int) -> NDArray[np.bool_]:
        """Masks of the objects in item `i`, bool [objects,size,size]."""
        plan = self._plan_of(i)
        return np.stack(compose([self._cutouts[row] for row in plan.rows], plan.boxes, plan.ground, self.size)[1])

    def _object(self, row: int, box: Box, mask: NDArray[np.bool_]) -> SceneObject:
        about = self._rows[row]
        return SceneObject(
            name=about["name"], keywords=self._keywords[row], content=about["untoned"], group=about["group"],
            file=about["file"], box=box, mask=mask,
        )  # fmt: skip

    def _plan_of(self, i: int) -> _Plan:
        alone = len(self.single_images)
        return self._plan(i - alone) if i >= alone else self._single(i)

    def _single(self, row: int) -> _Plan:
        return _Plan((row,), (centred_box(self._rows[row]["bbox"], self.size),), "", self._rows[row]["style"])

    def _plan(self, i: int) -> _Plan:
        generator = np.random.default_rng([self.seed, i])
        styles = sorted(self._by_style)
        style = styles[int(generator.integers(len(styles)))]
        rows, chances = self._by_style[style]
        count = min(1 + int(generator.choice(len(_COUNTS), p=_COUNTS)), len(rows))
        chosen = tuple(int(row) for row in generator.choice(rows, count, replace=False, p=chances))
        shapes = [(self._cutouts[row].shape[1], self._cutouts[row].shape[0]) for row in chosen]
        boxes = tuple(arrange(shapes, self.size, generator))
        return _Plan(chosen, boxes, self._ground(chosen, generator), style)

    def _ground(self, rows: Sequence[int], generator: np.random.Generator) -> str:
        """Draw a background colour on which all objects are visible, or "" for white."""
        if generator.random() >= _COLOURED:
            return ""
        names = list(GROUNDS)
        seen = [i for i in range(len(names)) if (self._lost[list(rows), i] <= _MOST_LOST).all()]
        return names[int(generator.choice(seen))] if seen else ""


def _cutout(path: Path, bbox: Sequence[int]) -> NDArray[np.uint8]:
    with open_drawing(path) as image:
        return np.asarray(image.convert("RGBA").crop(tuple(bbox)))


def _specific_keywords(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """For each row, the keywords that at most `_MOST_SHARED` emoji have."""
    of_content = {row["untoned"]: row["keywords"] for row in rows}
    shared = Counter(word for words in of_content.values() for word in set(words))
    return [[word for word in row["keywords"] if shared[word] <= _MOST_SHARED] for row in rows]


def _by_style(rows: Sequence[dict[str, Any]]) -> dict[str, tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Style -> indices of its rows and their probabilities, which are equal for all emoji, summed over skin tones."""
    found = {}
    for style in {row["style"] for row in rows}:
        mine = np.array([i for i, row in enumerate(rows) if row["style"] == style])
        content = [rows[i]["untoned"] for i in mine]
        weight = 1 / np.array([content.count(each) for each in content], np.float64)
        found[style] = (mine, weight / weight.sum())
    return found
