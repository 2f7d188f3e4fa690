"""Paired edits with ground truth: the same emoji with another skin tone, gender, hair, colour or drawing style.

Source and target are pictures of the corpus that `sfumato data emoji` builds. The list is fixed (`pairs.csv`, made by
`sfumato.bench.select`), so that everybody measures the same edits. Captions are "{name}, {style}".

Both pictures of a pair are laid out by one rule, so that what the edit should keep lies at the same pixels: within one
style both drawings share a canvas, and one box around the two of them is cropped from both; drawings in two styles do
not, and each is cropped by its own box and scaled to the same longest side, as in training. The region that truly
changes is where the two differ.
"""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.bench.items import Item, Pictures
from sfumato.bench.region import changed_region
from sfumato.data.corpus import TABLE, read_table
from sfumato.data.pixels import centred_drawing, open_drawing
from sfumato.errors import BadInput
from sfumato.metrics import METRICS, Metric
from sfumato.paths import check_inside
from sfumato.regular_files import read_bytes

LIST = "pairs.csv"
STYLE = "style"
KINDS = ("tone", "gender", "hair", "colour", STYLE)

#: Of the file of a picture.
_MOST_BYTES = 64 << 20
_AGAIN = "run `sfumato data emoji` again, it makes what is missing"

Box = tuple[int, int, int, int]
Row = dict[str, Any]


@dataclass(frozen=True)
class Pair:
    """One line of the list.

    Attributes:
        kind: of `KINDS`.
        split: of the target's picture: "test" or "cells"; "train" where a kind has too few held-out pictures.
        source: file in the corpus.
        target: file in the corpus.
    """

    kind: str
    split: str
    source: str
    target: str

    @property
    def name(self) -> str:
        """Unique, from kind, code points and styles, for files and tables."""
        (style, emoji), (other_style, other) = (Path(file).with_suffix("").parts[-2:] for file in self._files)
        return f"{self.kind}-{style}-{emoji}-to-{other_style if self.kind == STYLE else other}"

    @property
    def _files(self) -> tuple[str, str]:
        return self.source, self.target


class PairBenchmark:
    """The pairs at a size in pixels.

    Args:
        corpus: the folder that `sfumato data emoji` built.
        size: pixels along each side.

    Raises:
        BadInput: no corpus, or one that lacks pictures of the list.
    """

    name = "pairs"
    metrics: Mapping[str, Metric] = METRICS
    headline: tuple[str, ...] = (
        "target_psnr",
        "target_lpips",
        "outside_psnr",
        "structure",
        "clip",
        "clip_nearer",
        "clip_direction",
    )

    def __init__(self, corpus: Path, size: int = 64) -> None:
        rows = {row["file"]: row for row in read_corpus(corpus)}
        pairs = read_list()
        missing = [file for pair in pairs for file in (pair.source, pair.target) if file not in rows]
        if missing:
            raise BadInput(
                f"{corpus} lacks {len(missing)} pictures of the pairs, among them {missing[0]}: build the whole corpus "
                "with `sfumato data emoji`."
            )
        check_inside(corpus, *(file for pair in pairs for file in (pair.source, pair.target)))
        self.identity = f"{self.name}, {size} px, list {sha256(_list_text().encode()).hexdigest()[:12]}"
        self.items: Sequence[Item] = [
            self._item(corpus, size, pair, rows[pair.source], rows[pair.target]) for pair in pairs
        ]

    @staticmethod
    def _item(corpus: Path, size: int, pair: Pair, source: Row, target: Row) -> Item:
        load, origin = partial(pictures, corpus, size, source, target), partial(_origin, corpus, source, target)
        return Item(pair.name, pair.kind, pair.split, caption(source), caption(target), load, origin)


def read_corpus(corpus: Path) -> list[Row]:
    """The rows of the corpus, finished or not. Raises BadInput when there is none, or one that is damaged."""
    if not (corpus / TABLE).is_file():
        raise BadInput(f"{corpus} is not the emoji corpus: build it with `sfumato data emoji`, or name its folder.")
    rows: list[Row] = read_table(corpus, ("file", "style", "name", "bbox")).to_pylist()
    return rows


def read_list() -> list[Pair]:
    """The fixed list."""
    return [Pair(**line) for line in csv.DictReader(_list_text().splitlines())]


def _list_text() -> str:
    return files(__package__).joinpath(LIST).read_text(encoding="utf-8")


def write_list(pairs: Sequence[Pair], path: Path) -> None:
    """Write what `read_list` reads."""
    names = [each.name for each in fields(Pair)]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([getattr(pair, name) for name in names] for pair in pairs)


def caption(row: Row) -> str:
    """What a picture of the corpus shows."""
    return f"{row['name']}, {row['style']}"


def pictures(corpus: Path, size: int, source: Row, target: Row) -> Pictures:
    """Both pictures at `size` x `size` pixels, laid out by one rule, and where they differ.

    Raises:
        BadInput: one of them cannot be read.
    """
    boxes = [tuple(row["bbox"]) for row in (source, target)]
    if source["style"] == target["style"]:
        boxes = [_around(*boxes)] * 2
    before, after = (_read(corpus / row["file"], box, size) for row, box in zip((source, target), boxes, strict=True))
    return Pictures(before, after, changed_region(before, after))


def _origin(corpus: Path, *rows: Row) -> bytes:
    """Boxes and files of a pair."""
    boxes = json.dumps([list(row["bbox"]) for row in rows]).encode()
    return b"".join([boxes, *(_content(corpus / row["file"]) for row in rows)])


def _content(path: Path) -> bytes:
    return read_bytes(path, _AGAIN, _MOST_BYTES)


def _around(a: Box, b: Box) -> Box:
    """The smallest box (left, top, right, bottom) that holds both."""
    return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])


def _read(path: Path, box: Box, size: int) -> NDArray[np.uint8]:
    try:
        with open_drawing(path) as image:
            return np.ascontiguousarray(centred_drawing(image, box, size).transpose(1, 2, 0))
    except Exception as error:  # decoders throw OSError, ValueError, SyntaxError, EOFError, struct.error, ...
        raise BadInput(f"{path} cannot be read: {_AGAIN}.") from error
