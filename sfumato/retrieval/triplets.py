"""Triplets (x, y, s) by cross-modal search, as supervision of PARASOL (arXiv 2303.06464, section 3.1).

For every output image x, the style image s is the image of the style database that is nearest to x in style, among the
`k` nearest and without those whose content is too similar to that of x. The content image y is found in the content
database in the same way, with the roles of content and style exchanged. The databases have no image in common, and
images with the pixels of x are excluded.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sfumato.errors import BadInput
from sfumato.files import printable
from sfumato.retrieval.columns import VECTORS, as_column
from sfumato.retrieval.condition import filtered, restricted
from sfumato.retrieval.files import Value
from sfumato.retrieval.index import KEY, ImageIndex
from sfumato.retrieval.search import descriptors
from sfumato.style.describers import Vectors

NONE = -1
"""Row number of an image for which nothing was found."""
_CHUNK = 256
"""Number of output images that are compared with a database in one batch."""

RowNumbers: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Images:
    """Rows of an index.

    Attributes:
        paths: paths of the files.
        digests: SHA-256 of the scaled pixels; equal for equal images.
        vectors: unit descriptors [n,d] by modality.
        labels: true contents and styles by modality, for columns that the index contains; None for unknown labels.
    """

    paths: list[str]
    digests: list[str]
    vectors: Mapping[str, Vectors]
    labels: Mapping[str, list[str | None]]

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, rows: Sequence[int]) -> "Images":
        """Selected rows."""
        chosen = {name: [each[row] for row in rows] for name, each in self.labels.items()}
        vectors = {name: each[list(rows)] for name, each in self.vectors.items()}
        return Images([self.paths[row] for row in rows], [self.digests[row] for row in rows], vectors, chosen)


@dataclass(frozen=True, eq=False)
class Triplets:
    """The triplets and the images from which they were chosen.

    Attributes:
        outputs: the images x.
        contents: the content database.
        styles: the style database.
        y: row of the content image in `contents` for every x, or `NONE`.
        s: row of the style image in `styles` for every x, or `NONE`.
    """

    outputs: Images
    contents: Images
    styles: Images
    y: RowNumbers
    s: RowNumbers

    @property
    def complete(self) -> RowNumbers:
        """Rows of the outputs that have a content image and a style image."""
        return np.flatnonzero((self.y != NONE) & (self.s != NONE))

    def table(self, about: Mapping[str, Any]) -> pa.Table:
        """One row for every complete triplet: paths of x, y and s, four cosines, and the descriptors c_y and a_s.

        Args:
            about: `ImageIndex.about` of the index, the encoders of the descriptors; stored as metadata of the table.
        """
        x, y, s = self.complete, self.y[self.complete], self.s[self.complete]
        found: dict[str, Any] = {
            "output": [self.outputs.paths[row] for row in x],
            "content": [self.contents.paths[row] for row in y],
            "style": [self.styles.paths[row] for row in s],
        }
        for name in ("content", "style"):
            own = self.outputs.vectors[name][x]
            found[f"{name}_of_content"] = (own * self.contents.vectors[name][y]).sum(1)
            found[f"{name}_of_style"] = (own * self.styles.vectors[name][s]).sum(1)
        found["c_y"] = as_column(self.contents.vectors["content"][y])
        found["a_s"] = as_column(self.styles.vectors["style"][s])
        return pa.table(found).replace_schema_metadata({KEY: json.dumps(dict(about))})


def read_images(index: ImageIndex, where: str = "", labels: Mapping[str, str] | None = None) -> Images:
    """Rows of an index in memory, in the order of their paths.

    Args:
        index: the index.
        where: SQL condition; "" for all rows.
        labels: names of the columns with the true content and style, by modality; missing columns are ignored.

    Raises:
        BadInput: the index is empty, or the condition cannot be evaluated or holds for no image.
    """
    index.check_filled()
    known = {name: column for name, column in (labels or {}).items() if column in index.columns}
    columns = ["path", "digest", *VECTORS.values(), *dict.fromkeys(known.values())]
    with filtered(index, where):
        table = restricted(index.table.search(), where).select(columns).to_arrow().sort_by("path")
    if not len(table):
        raise BadInput(f'No image of {printable(index.uri)} satisfies the condition "{where[:200]}".')
    return Images(
        table["path"].to_pylist(),
        table["digest"].to_pylist(),
        {name: descriptors(table, name) for name in ("content", "style")},
        {name: [_label(each) for each in table[column].to_pylist()] for name, column in known.items()},
    )


def _label(value: Value) -> str | None:
    """A value as text that is equal for equal values: in a column of another type, 1 may be stored as 1.0."""
    value = int(value) if isinstance(value, float) and value.is_integer() else value
    return None if value is None else str(value)


def disjoint(contents: Images, styles: Images) -> tuple[Images, Images]:
    """Remove common images from two databases.

    An image that is in both is kept in only one of them, which is selected by a hash of its pixels.
    """
    common = set(contents.digests) & set(styles.digests)

    def kept(images: Images, parity: int) -> Images:
        own = [
            row
            for row, digest in enumerate(images.digests)
            if digest not in common or hashlib.sha256(digest.encode()).digest()[0] % 2 == parity
        ]
        return images.take(own)

    return kept(contents, 0), kept(styles, 1)


def nearest_within(
    outputs: Images, database: Images, by: str, bounded: str, k: int, most: float, *, same: bool = False
) -> RowNumbers:
    """For every output, the nearest image by one modality among those that differ enough in the other modality.

    Args:
        outputs: the images x.
        database: the images to choose from.
        by: the modality in which the nearest images are searched, "content" or "style".
        bounded: the modality in which the images must differ.
        k: number of nearest images that are considered.
        most: largest cosine of the modality `bounded`.
        same: consider only images whose true label of the modality `by` is known and equal to that of the output.

    Returns:
        Row numbers in the database, int64 [outputs]; `NONE` for outputs without such an image.
    """
    numbers = {digest: number for number, digest in enumerate(dict.fromkeys([*outputs.digests, *database.digests]))}
    own, theirs = (np.array([numbers[digest] for digest in each.digests]) for each in (outputs, database))
    labels = [np.array([label or "" for label in each.labels[by]]) for each in (outputs, database)] if same else None
    found: RowNumbers = np.full(len(outputs), NONE, np.int64)
    k = min(k, len(database))
    for start in range(0, len(outputs) if k else 0, _CHUNK):
        part = slice(start, start + _CHUNK)
        near = outputs.vectors[by][part] @ database.vectors[by].T
        near[own[part, None] == theirs[None]] = -np.inf
        if labels is not None:
            near[(labels[0][part, None] != labels[1][None]) | (labels[0][part, None] == "")] = -np.inf
        top = np.argpartition(-near, k - 1, axis=1)[:, :k]
        order = np.take_along_axis(near, top, 1)
        top = np.take_along_axis(top, np.argsort(-order, axis=1, kind="stable"), 1)
        other = np.einsum("nd,nkd->nk", outputs.vectors[bounded][part], database.vectors[bounded][top])
        allowed = (other <= most) & np.isfinite(np.take_along_axis(near, top, 1))
        first = allowed.argmax(1)
        chosen = np.take_along_axis(top, first[:, None], 1)[:, 0]
        found[part] = np.where(allowed.any(1), chosen, NONE)
    return found


def find_triplets(
    outputs: Images,
    contents: Images,
    styles: Images,
    *,
    k: int = 50,
    most_content: float = 0.5,
    most_style: float = 0.5,
    same_content: bool = False,
) -> Triplets:
    """Find triplets for all outputs; the databases must be `disjoint`.

    Args:
        outputs: the images x.
        contents: the content database.
        styles: the style database.
        k: number of candidates.
        most_content: largest cosine of the contents of x and s.
        most_style: largest cosine of the styles of x and y.
        same_content: choose y only among images with the true content of x; x without such an image has no triplet.

    Raises:
        BadInput: a number is out of its range, or `same_content` without labels of the content.
    """
    if k < 1 or not all(-1 <= each <= 1 for each in (most_content, most_style)):
        raise BadInput("Triplets need k of at least 1, and largest cosines in [-1, 1].")
    if same_content and not all("content" in each.labels for each in (outputs, contents)):
        raise BadInput("Triplets of the same content need a column of the true content: name it.")
    y = nearest_within(outputs, contents, "content", "style", k, most_style, same=same_content)
    s = nearest_within(outputs, styles, "style", "content", k, most_content)
    return Triplets(outputs, contents, styles, y, s)
