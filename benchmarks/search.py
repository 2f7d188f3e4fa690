"""Search of synthetic descriptors: recall and latency of the approximate index against the exact search.

    python -m benchmarks.search --rows 10000 100000 1000000 --out search.json

Descriptors are unit vectors clustered around random centres, like those of real images; recall would not be meaningful
for uniform vectors, which have no near neighbours. Queries are rows with added noise. Recall@10 is the share of the ten
nearest rows of the exact search that the approximate search finds.
"""

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.report import environment
from sfumato.files import write_text
from sfumato.retrieval.columns import OWN, VECTORS, as_column
from sfumato.retrieval.database import TABLE, build_ann, connect
from sfumato.retrieval.index import FORMAT, KEY, ImageIndex
from sfumato.retrieval.query import Query
from sfumato.retrieval.search import search
from sfumato.style.describers import MODALITIES, Vectors

CHUNK = 50_000
"""Number of rows that are written in one batch."""
PER_CENTRE = 100
"""Number of rows around one centre."""
QUERIES = {"content": {"content": 1.0}, "style": {"style": 1.0}, "both": {"content": 1.0, "style": 1.0}}


def descriptors(centres: Vectors, count: int, draw: np.random.Generator, spread: float) -> Vectors:
    """`count` unit vectors around randomly chosen centres; `spread` is the length of the difference from the centre."""
    noise = draw.standard_normal((count, centres.shape[1]), np.float32) * (spread / centres.shape[1] ** 0.5)
    return unit(centres[draw.integers(0, len(centres), count)] + noise)


def unit(vectors: Vectors) -> Vectors:
    """Vectors of length 1."""
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def filled(folder: Path, rows: int, dimension: int, draw: np.random.Generator) -> ImageIndex:
    """An index of random descriptors."""
    about = {"format": FORMAT} | {name: {"fingerprint": "0" * 64, "dimension": dimension} for name in MODALITIES}
    kinds = {column: pa.list_(pa.float32(), dimension) for column in VECTORS.values()}
    schema = pa.schema([*OWN.items(), *kinds.items()], metadata={KEY: json.dumps(about)})
    index = ImageIndex(connect(str(folder)).create_table(TABLE, schema=schema), str(folder), about)
    centres = {name: unit(draw.standard_normal((max(1, rows // PER_CENTRE), dimension))) for name in MODALITIES}
    for start in range(0, rows, CHUNK):
        count = min(CHUNK, rows - start)
        parts = {VECTORS[name]: as_column(descriptors(centres[name], count, draw, 0.7)) for name in MODALITIES}
        columns = {name: pa.nulls(count, kind) for name, kind in OWN.items()}
        columns["path"] = pa.array([str(number) for number in range(start, start + count)])
        index.table.add(pa.table({**columns, **parts}).cast(schema))
    return index


def queries(index: ImageIndex, count: int, draw: np.random.Generator) -> list[dict[str, Vectors]]:
    """Descriptors of random rows with added noise, by modality."""
    rows = draw.choice(len(index), min(count, len(index)), replace=False).tolist()
    table = index.table.take_offsets(rows).select([*VECTORS.values()]).to_arrow()
    found = {name: np.stack(table[VECTORS[name]].to_pylist()).astype(np.float32) for name in MODALITIES}
    disturbed = {name: unit(each + 0.3 * unit(draw.standard_normal(each.shape))) for name, each in found.items()}
    return [{name: each[row] for name, each in disturbed.items()} for row in range(len(rows))]


def measured(index: ImageIndex, wanted: Sequence[Query], exact: bool, probes: int = 32) -> tuple[list[set[str]], float]:
    """Paths of the ten nearest rows of every query, and the median of the seconds of a search."""
    found, seconds = [], []
    for query in wanted:
        began = time.perf_counter()
        hits = search(index, query, 10, exact=exact, probes=probes)
        seconds.append(time.perf_counter() - began)
        found.append({hit.row["path"] for hit in hits})
    return found, median(seconds)


def measure(rows: int, dimension: int, count: int, probes: Sequence[int], seed: int = 0) -> dict[str, Any]:
    """All measurements for one number of rows."""
    draw = np.random.default_rng(seed)
    with _folder() as folder:
        began = time.perf_counter()
        index = filled(folder, rows, dimension, draw)
        figures: dict[str, Any] = {"rows": rows, "write_s": time.perf_counter() - began}
        drawn = queries(index, count, draw)
        began = time.perf_counter()
        for column in VECTORS.values():
            build_ann(index.table, column)
        figures["build_s"] = time.perf_counter() - began
        figures["megabytes"] = sum(each.stat().st_size for each in folder.rglob("*") if each.is_file()) / 1e6
        for kind, weights in QUERIES.items():
            wanted = [Query.of({name: each[name] for name in weights}, weights) for each in drawn]
            truth, seconds = measured(index, wanted, exact=True)
            figures[kind] = {"exact_ms": 1000 * seconds}
            for number in probes:
                found, seconds = measured(index, wanted, exact=False, probes=number)
                recall = float(np.mean([len(a & b) / len(a) for a, b in zip(truth, found, strict=True)]))
                figures[kind][f"probes_{number}"] = {"recall_at_10": recall, "ms": 1000 * seconds}
    return figures


@contextmanager
def _folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="sfumato-search-"))
    try:
        yield path
    finally:
        shutil.rmtree(path)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--dimension", type=int, default=128)
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("--probes", type=int, nargs="+", default=[8, 32, 128])
    parser.add_argument("--out", type=Path, help="JSON file")
    given = parser.parse_args()
    figures: list[dict[str, Any]] = []
    for rows in given.rows:
        figures.append(measure(rows, given.dimension, given.queries, given.probes))
        about = {"environment": environment("cpu"), "dimension": given.dimension, "figures": figures}
        print(json.dumps(figures[-1]), flush=True)
        if given.out:
            write_text(given.out, json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    main()
