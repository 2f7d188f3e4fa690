"""Read and check the table of an emoji corpus before any image is opened."""

import os
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sfumato.errors import BadInput
from sfumato.files import printable
from sfumato.paths import inside
from sfumato.regular_files import open_regular, reason

TABLE, MARKER = "table.parquet", "build.json"

_TEXT = pa.string()
#: The columns of the table (`sfumato.data.emoji.table`) that a dataset requires.
COLUMNS = {
    "file": _TEXT, "style": _TEXT, "name": _TEXT, "keywords": pa.list_(_TEXT), "group": _TEXT, "subgroup": _TEXT,
    "untoned": _TEXT, "base": _TEXT, "skin_tone": _TEXT, "bbox": pa.list_(pa.int32()), "visible": pa.float64(),
    "duplicate_of": _TEXT,
}  # fmt: skip
_AGAIN = "run `sfumato data emoji` again to complete the corpus"
#: Upper limits: a compressed file of a few bytes can expand to any number of equal rows.
_MOST_ROWS, _MOST_COLUMNS = 5_000_000, 1000


def read_corpus(folder: Path) -> pa.Table:
    """Read the table of a corpus.

    Raises:
        BadInput: the build is not complete, or the table is damaged, lacks a column or has an invalid bounding box.
    """
    if not (folder / MARKER).is_file():
        raise BadInput(f"The corpus in {folder} is not complete: {_AGAIN}.")
    table = read_table(folder, COLUMNS)
    _check_boxes(table, folder / TABLE)
    return table


def read_table(folder: Path, columns: Iterable[str]) -> pa.Table:
    """Read the table of a corpus; its build may be incomplete, and its images are not checked.

    Args:
        folder: folder of the corpus.
        columns: the columns (of `COLUMNS`) that must be present, with a value in every row.

    Raises:
        BadInput: the table is missing or damaged, or has other columns.
    """
    path = folder / TABLE
    with open_regular(path, _AGAIN) as opened:
        try:
            file = pq.ParquetFile(opened)
            if file.metadata.num_rows > _MOST_ROWS or file.metadata.num_columns > _MOST_COLUMNS:
                raise ValueError(f"more than {_MOST_ROWS:,} rows or {_MOST_COLUMNS:,} columns")
            table = file.read()
            table.validate(full=True)  # finds invalid UTF-8, which reading does not
        except (OSError, ValueError, OverflowError, pa.ArrowException) as error:
            raise BadInput(f"{printable(path)} cannot be read ({reason(error)}): {_AGAIN}.") from error
    for name in columns:
        _check_column(table, name, path)
    return table


def _check_column(table: pa.Table, name: str, path: Path) -> None:
    kind = COLUMNS[name]
    if table.column_names.count(name) != 1 or table.schema.field(name).type != kind:
        raise BadInput(f"{path} has no column {name} of type {kind}, another version wrote it: {_AGAIN}.")
    column = table[name]
    if column.null_count or (pa.types.is_list(kind) and pc.list_flatten(column).null_count):
        raise BadInput(f"{path} has rows without {name}: {_AGAIN}.")


def _check_boxes(table: pa.Table, path: Path) -> None:
    """Check that every visible image has a box with left < right and top < bottom."""
    visible = table.filter(pc.greater(table["visible"], 0))
    for file, box in zip(visible["file"].to_pylist(), visible["bbox"].to_pylist(), strict=True):
        if len(box) != 4 or not (0 <= box[0] < box[2] and 0 <= box[1] < box[3]):
            raise BadInput(f"{path} gives {file!r} the bounding box {box}: {_AGAIN}.")


def check_image_files(folder: Path, table: pa.Table) -> None:
    """Check that all images of a table are in the folder.

    Raises:
        BadInput: a file of the column `file` is outside the folder or missing.
    """
    for file in table["file"].to_pylist():
        if not inside(folder, file):
            raise BadInput(f"{folder / TABLE}: the file {file!r} lies outside the folder; {_AGAIN}.")
        if not os.path.isfile(folder / file):
            raise BadInput(f"{folder / TABLE}: there is no image {file!r} in {folder}; {_AGAIN}.")
