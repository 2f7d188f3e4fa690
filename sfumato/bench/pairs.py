"""Paired edits with ground truth: the same emoji with another skin tone, gender, hair, colour or drawing style.

Source and target are images of the corpus that `sfumato data emoji` builds. The list is fixed (`pairs.csv`, made by
`sfumato.bench.select`), so that all results are for the same edits. Captions are "{name}, {style}".

Both images of a pair are cropped such that unchanged content lies at the same pixels. Two drawings of one style share a
canvas and are cropped by the bounding box of both. Drawings of different styles share no canvas: each is cropped by its
own box and scaled to the same longest side, as in training. The mask is the region in which the two images differ.
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

from sfumato.bench.items import Item, ItemImages, edit_metrics
from sfumato.bench.region import changed_region
from sfumato.data.corpus import TABLE, read_table
from sfumato.data.pixels import centred_drawing, open_drawing
from sfumato.errors import BadInput
from sfumato.metrics import Metric
from sfumato.paths import check_inside
from sfumato.regular_files import read_bytes

LIST = "pairs.csv"
STYLE = "style"
KINDS = ("tone", "gender", "hair", "colour", STYLE)

#: Largest size of an image file in bytes.
_MOST_BYTES = 64 << 20
_AGAIN = "run `sfumato data emoji` again, which creates missing files"

Box = tuple[int, int, int, int]
Row = dict[str, Any]


@dataclass(frozen=True)
class Pair:
    """One line of the list.

    Attributes:
        kind: one of `KINDS`.
        split: split of the target image: "test" or "cells"; "train" where a kind has too few held-out images.
        source: file of the source image in the corpus.
        target: file of the target image in the corpus.
    """

    kind: str
    split: str
    source: str
    target: str

    @property
    def name(self) -> str:
        """Unique name from kind, code points and styles, for files and tables."""
        (style, emoji), (other_style, other) = (Path(file).with_suffix("").parts[-2:] for file in self._files)
        return f"{self.kind}-{style}-{emoji}-to-{other_style if self.kind == STYLE else other}"

    @property
    def _files(self) -> tuple[str, str]:
        return self.source, self.target


class PairBenchmark:
    """The benchmark of paired edits, at one image size.

    Args:
        corpus: the folder that `sfumato data emoji` built.
        size: side of the images in pixels.

    Raises:
        BadInput: the folder is not a corpus, or it lacks images of the list.
    """

    name = "pairs"
    headline: tuple[str, ...] = (
        "target_psnr",
        "target_lpips",
        "outside_psnr",
        "structure",
        "clip",
        "clip_nearer",
        "clip_direction",
    )

    def __init__(self, corpus: Path, size: int) -> None:
        rows = {row["file"]: row for row in read_corpus(corpus)}
        pairs = read_list()
        missing = [file for pair in pairs for file in (pair.source, pair.target) if file not in rows]
        if missing:
            raise BadInput(
                f"{corpus} lacks {len(missing)} images of the pairs, among them {missing[0]}: build the complete "
                "corpus with `sfumato data emoji`."
            )
        check_inside(corpus, *(file for pair in pairs for file in (pair.source, pair.target)))
        self.metrics: Mapping[str, Metric] = edit_metrics()
        self.identity = f"{self.name}, {size} px, list {sha256(_list_text().encode()).hexdigest()[:12]}"
        self.items: Sequence[Item] = [
            self._item(corpus, size, pair, rows[pair.source], rows[pair.target]) for pair in pairs
        ]

    @staticmethod
    def _item(corpus: Path, size: int, pair: Pair, source: Row, target: Row) -> Item:
        load, origin = partial(read_pair, corpus, size, source, target), partial(_origin, corpus, source, target)
        return Item(pair.name, pair.kind, pair.split, caption(source), caption(target), load, origin)


def read_corpus(corpus: Path) -> list[Row]:
    """Read the table of the corpus, which may be incomplete. Raises BadInput if it does not exist or is damaged."""
    if not (corpus / TABLE).is_file():
        raise BadInput(f"{corpus} is not the emoji corpus: build it with `sfumato data emoji`, or give its folder.")
    rows: list[Row] = read_table(corpus, ("file", "style", "name", "bbox")).to_pylist()
    return rows


def read_list() -> list[Pair]:
    """Read the fixed list of pairs."""
    return [Pair(**line) for line in csv.DictReader(_list_text().splitlines())]


def _list_text() -> str:
    return files(__package__).joinpath(LIST).read_text(encoding="utf-8")


def write_list(pairs: Sequence[Pair], path: Path) -> None:
    """Write a list of pairs for `read_list`."""
    names = [each.name for each in fields(Pair)]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([getattr(pair, name) for name in names] for pair in pairs)


def caption(row: Row) -> str:
    """Caption of an image of the corpus."""
    return f"{row['name']}, {row['style']}"


def read_pair(corpus: Path, size: int, source: Row, target: Row) -> ItemImages:
    """Read both images of a pair at `size` x `size` pixels, and the mask where they differ.

    Raises:
        BadInput: an image cannot be read.
    """
    boxes = [tuple(row["bbox"]) for row in (source, target)]
    if source["style"] == target["style"]:
        boxes = [_around(*boxes)] * 2
    before, after = (_read(corpus / row["file"], box, size) for row, box in zip((source, target), boxes, strict=True))
    return ItemImages(before, after, changed_region(before, after))


def _origin(corpus: Path, *rows: Row) -> bytes:
    """The boxes and files of a pair as bytes."""
    boxes = json.dumps([list(row["bbox"]) for row in rows]).encode()
    return b"".join([boxes, *(_content(corpus / row["file"]) for row in rows)])


def _content(path: Path) -> bytes:
    return read_bytes(path, _AGAIN, _MOST_BYTES)


def _around(a: Box, b: Box) -> Box:
    """The smallest box (left, top, right, bottom) that contains both."""
    return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])


def _read(path: Path, box: Box, size: int) -> NDArray[np.uint8]:
    try:
        with open_drawing(path) as image:
            return np.ascontiguousarray(centred_drawing(image, box, size).transpose(1, 2, 0))
    except Exception as error:  # decoders raise OSError, ValueError, SyntaxError, EOFError, struct.error, ...
        raise BadInput(f"{path} cannot be read: {_AGAIN}.") from error
