"""Scenes composed while they are needed: scene i of a data set is a function of (seed, i)."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.data.corpus import TABLE
from sfumato.data.dataset import CaptionedImages
from sfumato.data.pixels import open_drawing
from sfumato.data.scenes.captions import caption, varied
from sfumato.data.scenes.grounds import GROUNDS, lost_share
from sfumato.data.scenes.layout import Box, arrange, check_count
from sfumato.data.scenes.scene import Scene, SceneObject, compose
from sfumato.data.splits import Split
from sfumato.errors import BadInput

#: Chances of a scene of one, two and three objects.
_COUNTS = (0.2, 0.55, 0.25)
#: Share of the scenes on a coloured ground.
_COLOURED = 0.4
#: A ground on which more of a cut-out than this is lost is not used for it.
_MOST_LOST = 0.25
#: A keyword of more emoji than this ("face", "animal") says too little to stand for one of them.
_MOST_SHARED = 8
#: Seed and number of the scenes of each split that models are measured on.
HELD_OUT_SEED, HELD_OUT_COUNT = 20, 500


@dataclass(frozen=True)
class _Plan:
    """What scene i consists of, without its pixels."""

    rows: tuple[int, ...]
    boxes: tuple[Box, ...]
    ground: str
    style: str


class Scenes:
    """Single pictures, followed by `count` scenes composed of their cut-outs.

    Items 0..len(pictures)-1 are the pictures as `CaptionedImages` has them: one object that fills the canvas, on white.
    The others are scenes of one to three objects in one style, on white or on a plain colour. In training both halves
    are equally likely (`sampling_weights`).

    Args:
        pictures: the pictures of an emoji corpus; their files are read again for the cut-outs.
        folder: of the corpus.
        count: scenes.
        seed: scene i is a function of (seed, i).

    Raises:
        BadInput: the folder has no cut-outs, or `count` is negative.
    """

    def __init__(self, pictures: CaptionedImages, folder: str | Path, count: int, seed: int = 0) -> None:
        if "bbox" not in pictures.table.column_names:
            raise BadInput(
                f"{folder} has no cut-outs to compose scenes of: its pictures have no {TABLE} with bounding boxes. "
                "Build a corpus with `sfumato data emoji`, or train without scenes."
            )
        if count < 0:
            raise BadInput(f"the number of scenes must be 0 or more, not {count}.")
        check_count(len(_COUNTS))
        self.pictures, self.count, self.seed = pictures, count, seed
        self.size = pictures.images.shape[-1]
        self._rows = pictures.table.to_pylist()
        self._names = [row["name"] for row in self._rows]
        self._keywords = _telling_keywords(self._rows)
        self._cutouts = [_cutout(Path(folder, row["file"]), row["bbox"]) for row in self._rows]
        self._lost = np.array([lost_share(cutout) for cutout in self._cutouts])
        self._by_style = _by_style(self._rows)

    @classmethod
    def held_out(cls, folder: str | Path, split: Split, size: int = 128, **choice: object) -> "Scenes":
        """The fixed scenes that models are measured on: `HELD_OUT_COUNT` of cut-outs of the split "test" or "cells"."""
        pictures = CaptionedImages.open(folder, size, split=split, **choice)  # type: ignore[arg-type]
        return cls(pictures, folder, HELD_OUT_COUNT, HELD_OUT_SEED)

    def __len__(self) -> int:
        return len(self.pictures) + self.count

    def caption(self, i: int, generator: np.random.Generator | None = None) -> str:
        """The main caption of item `i`; with a generator one of the patterns of `sfumato.data.scenes.captions`."""
        plan = self._plan(i - len(self.pictures)) if i >= len(self.pictures) else self._alone(i)
        names, keywords = [self._names[row] for row in plan.rows], [self._keywords[row] for row in plan.rows]
        if generator is None:
            return caption(names, plan.ground, plan.style)
        return varied(names, keywords, plan.boxes, plan.ground, plan.style, generator)

    @property
    def names(self) -> list[str]:
        """The name of each picture's content."""
        return self._names

    def texts(self) -> list[str]:
        """The texts that a tokenizer learns its words from."""
        return [*self.pictures.texts(), *GROUNDS, "left of", "right of", "above", "below", "and", "on"]

    def pixels(self, items: Sequence[int]) -> NDArray[np.uint8]:
        """The pictures of some items: uint8 [n,3,size,size], sRGB."""
        alone = len(self.pictures)
        return np.stack([self.pictures.images[i] if i < alone else self.scene(i - alone).image for i in items])

    def sampling_weights(self) -> NDArray[np.float64]:
        """float64 [n] that sum to 1: half for the single pictures, each emoji equally likely, half for the scenes."""
        alone = self.pictures.sampling_weights()
        if not self.count:
            return alone
        return np.concatenate([alone / 2, np.full(self.count, 0.5 / self.count)])

    def scene(self, i: int) -> Scene:
        """Scene `i` with its objects' boxes and masks; i in 0..count-1."""
        plan = self._plan(i)
        image, masks = compose([self._cutouts[row] for row in plan.rows], plan.boxes, plan.ground, self.size)
        objects = map(self._object, plan.rows, plan.boxes, masks)
        return Scene(image, plan.style, plan.ground, tuple(objects))

    def _object(self, row: int, box: Box, mask: NDArray[np.bool_]) -> SceneObject:
        about = self._rows[row]
        return SceneObject(
            name=about["name"], keywords=self._keywords[row], content=about["untoned"], group=about["group"],
            file=about["file"], box=box, mask=mask,
        )  # fmt: skip

    def _alone(self, row: int) -> _Plan:
        return _Plan((row,), ((0, 0, self.size, self.size),), "", self._rows[row]["style"])

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
        """A colour on which all objects can be seen, or "" for white."""
        if generator.random() >= _COLOURED:
            return ""
        names = list(GROUNDS)
        seen = [i for i in range(len(names)) if (self._lost[list(rows), i] <= _MOST_LOST).all()]
        return names[int(generator.choice(seen))] if seen else ""


def _cutout(path: Path, bbox: Sequence[int]) -> NDArray[np.uint8]:
    with open_drawing(path) as image:
        return np.asarray(image.convert("RGBA").crop(tuple(bbox)))


def _telling_keywords(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """The keywords of each row that at most `_MOST_SHARED` emoji have."""
    of_content = {row["untoned"]: row["keywords"] for row in rows}
    shared = Counter(word for words in of_content.values() for word in set(words))
    return [[word for word in row["keywords"] if shared[word] <= _MOST_SHARED] for row in rows]


def _by_style(rows: Sequence[dict[str, Any]]) -> dict[str, tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Of each style its rows and their chances: each emoji equally likely, whatever its skin tones."""
    found = {}
    for style in {row["style"] for row in rows}:
        mine = np.array([i for i, row in enumerate(rows) if row["style"] == style])
        content = [rows[i]["untoned"] for i in mine]
        weight = 1 / np.array([content.count(each) for each in content], np.float64)
        found[style] = (mine, weight / weight.sum())
    return found
