"""Nearest-neighbour search for a query: exact, or approximate with candidates from the indices of a large table."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sfumato.errors import BadInput
from sfumato.files import printable
from sfumato.retrieval.columns import VECTORS
from sfumato.retrieval.condition import filtered, restricted
from sfumato.retrieval.database import explained
from sfumato.retrieval.index import ANN_ROWS, ImageIndex
from sfumato.retrieval.query import Query
from sfumato.style.describers import Vectors

BATCH = 8192
"""Number of rows that an exact search scores in one batch."""
PROBES = 32
"""Number of inverted lists that an approximate search reads; more if too few of their images satisfy `where`."""
CANDIDATES = 20
"""Candidates per modality and requested image of an approximate search with two modalities."""
REFINE = 4
"""Candidates per requested image of an approximate search with one modality."""


@dataclass(frozen=True)
class Hit:
    """One search result.

    Attributes:
        row: columns of the image.
        score: weighted mean of the cosines, in [-1, 1].
        cosines: the cosine of each modality of the query.
    """

    row: dict[str, Any]
    score: float
    cosines: dict[str, float]


def search(
    index: ImageIndex,
    query: Query,
    count: int = 10,
    *,
    where: str = "",
    exact: bool | None = None,
    probes: int = PROBES,
) -> list[Hit]:
    """The images with the highest scores, in descending order; ties in the order of the table.

    Args:
        index: the index.
        query: the query.
        count: largest number of results, at least 1.
        where: SQL condition on the columns, such as "style = 'noto' AND split = 'test'"; "" for all images.
        exact: compare all rows (True), or use the approximate indices (False); by default exact up to `ANN_ROWS` rows.
        probes: minimum number of inverted lists that an approximate search reads; more lists increase recall and time.

    Raises:
        BadInput: `count` is below 1, the index is empty, the query has other dimensions than the index, or the
            condition cannot be evaluated or holds for no image.
    """
    if count < 1:
        raise BadInput(f"The number of images to find must be at least 1, not {count}.")
    index.check_filled()
    for name in query.modalities:
        if len(query.vectors[name]) != (own := index.about[name]["dimension"]):
            raise BadInput(f"The {name} descriptors of the index have {own} numbers, not {len(query.vectors[name])}.")
    exact = len(index) <= ANN_ROWS if exact is None else exact
    ids = _scan(index, query, count, where) if exact else _candidates(index, query, count, where, probes)
    if not ids:
        raise BadInput(f'No image of {printable(index.uri)} satisfies the condition "{where[:200]}".')
    return _hits(index, query, ids, count)


def _scan(index: ImageIndex, query: Query, count: int, where: str) -> list[int]:
    """Row ids of the highest scores of all rows."""
    best_scores: NDArray[np.float32] = np.empty(0, np.float32)
    best_ids: NDArray[np.uint64] = np.empty(0, np.uint64)
    with filtered(index, where):
        found = (
            restricted(index.table.search(), where)
            .select([VECTORS[name] for name in query.modalities])
            .with_row_id(True)
        )
        for batch in found.to_batches(batch_size=BATCH):
            ids = batch.column("_rowid").to_numpy()
            scores = sum(
                query.weights[name] * (descriptors(batch, name) @ query.vectors[name]) for name in query.modalities
            )
            scores, ids = np.concatenate([best_scores, scores]), np.concatenate([best_ids, ids])
            top = np.argsort(-scores, kind="stable")[:count]
            best_scores, best_ids = scores[top], ids[top]
    return [int(each) for each in best_ids]


def _candidates(index: ImageIndex, query: Query, count: int, where: str, probes: int) -> list[int]:
    """Row ids of the candidates from the approximate index of each modality."""
    each = count * (REFINE if len(query.modalities) == 1 else CANDIDATES)
    found: dict[int, None] = {}
    for name in query.modalities:
        with filtered(index, where):
            nearest = restricted(index.table.search(query.vectors[name], vector_column_name=VECTORS[name]), where)
            # maximum_nprobes(0): no limit, so that with a condition lists are read until there are enough images.
            nearest = nearest.distance_type("cosine").minimum_nprobes(probes).maximum_nprobes(0)
            nearest = nearest.limit(each).select(["_distance"]).with_row_id(True)
            found |= dict.fromkeys(nearest.to_arrow().column("_rowid").to_pylist())
    return list(found)


def _hits(index: ImageIndex, query: Query, ids: Sequence[int], count: int) -> list[Hit]:
    """The `count` best of these rows, with their exact scores in descending order."""
    with explained(index.uri):
        columns = [*index.columns, *(VECTORS[name] for name in query.modalities)]
        table = index.table.take_row_ids(list(ids)).select(columns).to_arrow()
    rows = table.select(index.columns).to_pylist()
    cosines = {name: descriptors(table, name) @ query.vectors[name] for name in query.modalities}
    scores = sum(query.weights[name] * values for name, values in cosines.items())
    order = np.argsort(-np.asarray(scores), kind="stable")[:count]
    return [
        Hit(rows[i], float(np.asarray(scores)[i]), {name: float(values[i]) for name, values in cosines.items()})
        for i in order
    ]


def descriptors(rows: pa.RecordBatch | pa.Table, name: str) -> Vectors:
    """The descriptors of a modality as [n,d]."""
    column = rows.column(VECTORS[name])
    flat = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    dimension = flat.type.list_size
    return np.asarray(flat.flatten().to_numpy(zero_copy_only=False), np.float32).reshape(-1, dimension)
