"""Captioned images in memory: the emoji corpus, or a folder of the user."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from sfumato.data.corpus import TABLE, check_image_files, read_corpus
from sfumato.data.imagefolder import METADATA, read_metadata
from sfumato.data.pixels import centre_square, centred_drawing, open_drawing
from sfumato.data.splits import SPLITS, split_of, split_of_file
from sfumato.errors import BadInput
from sfumato.files import printable
from sfumato.images import read_image
from sfumato.suggestions import suggestion

_SIZES = range(8, 1025)
#: Probability that a random caption contains the name of an emoji; otherwise this many keywords replace it.
_NAMED = 0.8
_KEYWORDS = 3


class NothingLeft(BadInput):
    """Raised when a selection of split, styles and groups contains no image."""


@dataclass(frozen=True, eq=False)
class CaptionedImages:
    """Decoded images of one size with their captions.

    Emoji corpus: captions are "name, style", and images are scaled so that their bounding boxes have the same size.
    Other folders: captions are the `text` of the metadata, and images are cropped to their centre square.
    """

    #: The selected rows of the corpus or of the metadata, in the order of `images`.
    table: pa.Table
    #: uint8 [n, 3, size, size], sRGB on white.
    images: np.ndarray
    #: The main caption of each image.
    captions: list[str]
    #: For each image, the keywords that may replace the name in a caption; may be empty.
    alternatives: list[list[str]]
    #: For each selected image that cannot be read, a sentence that names it; it is not in `table`. Always empty for the
    #: emoji corpus, which is refused if a drawing cannot be read.
    unreadable: list[str] = field(default_factory=list)

    @classmethod
    def open(
        cls,
        folder: str | Path,
        size: int = 64,
        *,
        styles: Sequence[str] | None = None,
        split: str | None = None,
        tones: bool = True,
        min_styles: int = 1,
        groups: Sequence[str] | None = None,
        subgroups: Sequence[str] | None = None,
        names: Sequence[str] | None = None,
        drop_duplicates: bool = True,
        count: int | None = None,
    ) -> "CaptionedImages":
        """Decode a dataset folder at `size` x `size` pixels (8 to 1024).

        Args:
            folder: corpus built by `sfumato.data.emoji.build`, or a folder of images with a `metadata.jsonl`.
            size: side of the images in pixels.
            styles: emoji only: keep these styles; None for all.
            split: "train", "test" or "cells"; None for all. Pixel-equal images of a style are always in the same split.
            tones: emoji only: include the images with a skin tone.
            min_styles: emoji only: keep emoji that at least this many of the styles contain, in any skin tone.
            groups: emoji only: keep these groups, such as "food-drink".
            subgroups: emoji only: keep these subgroups, such as "food-fruit".
            names: emoji only: keep the emoji with these names, such as "red apple"; with `tones` in all skin tones.
            drop_duplicates: emoji only: keep only the first of several pixel-equal images of a style that are selected.
            count: keep a fixed random subset of at most this many images; the others are not decoded.

        Raises:
            BadInput: the folder is not a dataset, an argument is out of range, a drawing of the corpus cannot be read,
                or none of the images of another folder.
            NothingLeft: the selection contains no image.
        """
        folder = Path(folder)
        if size not in _SIZES:
            raise BadInput(f"The size must lie between {_SIZES[0]} and {_SIZES[-1]} pixels, not {size}.")
        if count is not None and count < 1:
            raise BadInput(f"count must be 1 or more, not {count}.")
        if split is not None and split not in SPLITS:
            raise BadInput(f"There is no split {split!r}; choose from: {', '.join(SPLITS)}.")
        if (folder / TABLE).is_file():
            rows = read_corpus(folder)
            table = _emoji_rows(rows, styles, tones, min_styles, groups, subgroups, names, drop_duplicates)
            splits = map(split_of, _original_bases(rows, table), table["style"].to_pylist())
        elif (folder / METADATA).is_file():
            if styles or groups or subgroups or names or min_styles > 1:
                raise BadInput(
                    f"{folder} has no styles, groups, subgroups and names, only the emoji corpus has them: leave these "
                    "arguments out."
                )
            table = read_metadata(folder)
            splits = map(split_of_file, table["file"].to_pylist())
        else:
            raise BadInput(
                f"{folder} is not a dataset: build one with `sfumato data emoji`, or name a folder of images "
                f'with a {METADATA} of lines such as {{"file_name": "1.png", "text": "a red apple"}}.'
            )
        if split is not None:
            table = table.filter(pa.array([s == split for s in splits], pa.bool_()))
        if not len(table):
            raise NothingLeft(f"{folder} contains no image of the chosen split, styles and groups; choose others.")
        if count is not None:
            table = table.take(np.random.default_rng(0).permutation(len(table))[:count])
        if "bbox" in table.column_names:
            check_image_files(folder, table)
        images, problems = _decode(_reader(folder, table, size), len(table), size)
        _check_readable(folder, table, problems)
        table = table.filter(pa.array([not problem for problem in problems], pa.bool_()))
        return cls(table, images, *_captions(table), [problem for problem in problems if problem])

    def __len__(self) -> int:
        return len(self.table)

    def caption(self, i: int, generator: np.random.Generator | None = None) -> str:
        """Caption of image `i`: the main one; with a generator, sometimes keywords of an emoji replace its name."""
        words = self.alternatives[i]
        if generator is None or generator.random() < _NAMED or not words:
            return self.captions[i]
        chosen = generator.choice(words, size=min(_KEYWORDS, len(words)), replace=False)
        return f"{' '.join(chosen)}, {self.table['style'][i].as_py()}"

    def texts(self) -> list[str]:
        """Texts to train a tokenizer on: the captions, and all keywords of each emoji."""
        return [*self.captions, *(" ".join(words) for words in self.alternatives)]

    def pixels(self, items: Sequence[int]) -> np.ndarray:
        """The images with the indices `items`: uint8 [n,3,size,size], sRGB on white."""
        return self.images[np.asarray(items)]

    def sampling_weights(self) -> np.ndarray:
        """Sampling probability of each image: float64 [n], sum 1.

        Every emoji has the same total probability, divided equally among its skin tones and styles. With uniform
        sampling, half of all samples would be people, which have an image for every skin tone. In a folder of the user
        all images are equally likely.
        """
        if "untoned" not in self.table.column_names:
            return np.full(len(self), 1 / len(self))
        emoji = self.table["untoned"].to_pylist()
        count = Counter(emoji)
        return np.array([1 / (len(count) * count[key]) for key in emoji])


def _emoji_rows(
    table: pa.Table,
    styles: Sequence[str] | None,
    tones: bool,
    min_styles: int,
    groups: Sequence[str] | None,
    subgroups: Sequence[str] | None,
    names: Sequence[str] | None,
    drop_duplicates: bool,
) -> pa.Table:
    """Select rows of the corpus by all criteria except the split. Images that are invisible on white are excluded."""
    table = table.filter(pc.greater(table["visible"], 0))
    table = _choose(table, "style", styles)
    drawn: dict[str, set[str]] = {}
    for emoji, style in zip(table["untoned"].to_pylist(), table["style"].to_pylist(), strict=True):
        drawn.setdefault(emoji, set()).add(style)
    if min_styles < 1 or min_styles > max(map(len, drawn.values()), default=1):
        most = max(map(len, drawn.values()), default=1)
        raise BadInput(f"min_styles must lie between 1 and {most} for these styles, not {min_styles}.")
    common = [emoji for emoji, found in drawn.items() if len(found) >= min_styles]
    table = table.filter(pc.is_in(table["untoned"], pa.array(common, pa.string())))
    table = _choose_names(_choose(_choose(table, "group", groups), "subgroup", subgroups), names)
    if not tones:
        table = table.filter(pc.equal(table["skin_tone"], ""))
    if drop_duplicates:
        table = table.filter(pa.array(_first_of_equal(_originals(table)), pa.bool_()))
    return table


def _originals(table: pa.Table) -> list[str]:
    """File of the first image of the corpus that is equal to the image of each row; its own file for the first one."""
    files, duplicates = table["file"].to_pylist(), table["duplicate_of"].to_pylist()
    return [original or file for original, file in zip(duplicates, files, strict=True)]


def _first_of_equal(values: Sequence[str]) -> list[bool]:
    """Whether each value is the first of several equal ones."""
    first: dict[str, int] = {}
    return [first.setdefault(value, i) == i for i, value in enumerate(values)]


def _original_bases(corpus: pa.Table, table: pa.Table) -> list[str]:
    """Base emoji of the first equal image of the corpus, for each row of `table`; equal images have the same."""
    bases = dict(zip(corpus["file"].to_pylist(), corpus["base"].to_pylist(), strict=True))
    return [bases.get(file, own) for file, own in zip(_originals(table), table["base"].to_pylist(), strict=True)]


def _choose(table: pa.Table, column: str, values: Sequence[str] | None) -> pa.Table:
    if values is None:
        return table
    known = sorted(set(table[column].to_pylist()))
    for value in values:
        if value not in known:
            raise BadInput(f"The corpus has no {column} {value!r}{suggestion(value, known)}")
    return table.filter(pc.is_in(table[column], pa.array(values, pa.string())))


def _choose_names(table: pa.Table, names: Sequence[str] | None) -> pa.Table:
    """Select emoji by the names of their images without skin tone."""
    if names is None:
        return table
    named = _choose(table.filter(pc.equal(table["skin_tone"], "")), "name", names)
    return table.filter(pc.is_in(table["untoned"], named["untoned"]))


def _reader(folder: Path, table: pa.Table, size: int) -> Callable[[int], np.ndarray]:
    """Function that decodes the image of a row of the table: uint8 [3, size, size]; raises BadInput."""
    paths = [folder / file for file in table["file"].to_pylist()]
    if "bbox" not in table.column_names:
        return lambda i: centre_square(Image.fromarray(read_image(paths[i]).rgb), size)
    boxes = table["bbox"].to_pylist()
    return lambda i: _drawing(paths[i], tuple(boxes[i]), size)


def _decode(read: Callable[[int], np.ndarray], count: int, size: int) -> tuple[np.ndarray, list[str]]:
    """Decode `count` images.

    Returns:
        The images that can be read, uint8 [n, 3, size, size], in their order; and for each of the `count` images a
        sentence that says why it cannot be read, or "".
    """
    out: np.ndarray = np.empty((count, 3, size, size), np.uint8)

    def fill(i: int) -> str:
        try:
            out[i] = read(i)
        except BadInput as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        problems = list(pool.map(fill, range(count)))
    kept = [i for i, problem in enumerate(problems) if not problem]
    for place, i in enumerate(kept):
        if place < i:  # images are moved within the array, because a copy of it would double the memory
            out[place] = out[i]
    return out[: len(kept)], problems


def _check_readable(folder: Path, table: pa.Table, problems: Sequence[str]) -> None:
    """Raise BadInput if no image can be read, or if a drawing of the corpus, which can be restored, cannot be read."""
    found = [problem for problem in problems if problem]
    if found and "bbox" in table.column_names:
        raise BadInput(found[0])
    if len(found) == len(problems):
        raise BadInput(f"none of the {len(found)} images of {printable(folder)} can be read; the first: {found[0]}")


def _drawing(path: Path, bbox: tuple[int, int, int, int], size: int) -> np.ndarray:
    try:
        with open_drawing(path) as image:
            return centred_drawing(image, bbox, size)
    except Exception as error:  # decoders throw OSError, ValueError, SyntaxError, EOFError, struct.error, ...
        raise BadInput(f"{path} cannot be read: run `sfumato data emoji` again to restore missing images.") from error


def _captions(table: pa.Table) -> tuple[list[str], list[list[str]]]:
    """Main captions, and the keywords that may replace the name in them."""
    if "text" in table.column_names:
        return table["text"].to_pylist(), [[] for _ in range(len(table))]
    names, styles = table["name"].to_pylist(), table["style"].to_pylist()
    return [f"{name}, {style}" for name, style in zip(names, styles, strict=True)], table["keywords"].to_pylist()
