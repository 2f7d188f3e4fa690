"""Reading the table of a built emoji corpus, and refusing one that is broken before a picture is opened."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sfumato.errors import BadInput

TABLE, MARKER = "table.parquet", "build.json"

_TEXT = pa.string()
#: What of the table (`sfumato.data.emoji.table`) a dataset is made from.
COLUMNS = {
    "file": _TEXT, "style": _TEXT, "name": _TEXT, "keywords": pa.list_(_TEXT), "group": _TEXT, "subgroup": _TEXT,
    "untoned": _TEXT, "base": _TEXT, "skin_tone": _TEXT, "bbox": pa.list_(pa.int32()), "visible": pa.float64(),
    "duplicate_of": _TEXT,
}  # fmt: skip
_AGAIN = "run `sfumato data emoji` again, it goes on and makes what is missing"


def read_corpus(folder: Path) -> pa.Table:
    """The corpus' table, all rows.

    Raises:
        BadInput: the build is not complete, or the table is damaged, lacks a column or has a row that is no picture's.
    """
    if not (folder / MARKER).is_file():
        raise BadInput(f"The corpus in {folder} is not complete: run `sfumato data emoji` again, it goes on.")
    path = folder / TABLE
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise BadInput(f"{path} cannot be read ({reason}): {_AGAIN}.") from error
    for name, kind in COLUMNS.items():
        if name not in table.column_names or table.schema.field(name).type != kind:
            raise BadInput(f"{path} has no column {name} of {kind}, so another version made it: {_AGAIN}.")
        if table[name].null_count:
            raise BadInput(f"{path} has rows without {name}: {_AGAIN}.")
    _check_boxes(table, path)
    return table


def _check_boxes(table: pa.Table, path: Path) -> None:
    """Every visible picture has a box of left < right and top < bottom."""
    visible = table.filter(pc.greater(table["visible"], 0))
    for file, box in zip(visible["file"].to_pylist(), visible["bbox"].to_pylist(), strict=True):
        if len(box) != 4 or not (0 <= box[0] < box[2] and 0 <= box[1] < box[3]):
            raise BadInput(f"{path} gives {file!r} the bounding box {box}: {_AGAIN}.")


def check_pictures(folder: Path, table: pa.Table) -> None:
    """Refuse a table whose pictures are not all in the folder.

    Raises:
        BadInput: a file of the column `file` lies outside the folder or is missing.
    """
    root = folder.resolve()
    for file in table["file"].to_pylist():
        if not inside(root, file):
            raise BadInput(f"{folder / TABLE}: the file {file!r} lies outside the folder; {_AGAIN}.")
        if not (folder / file).is_file():
            raise BadInput(f"{folder / TABLE}: there is no picture {file!r} in {folder}; {_AGAIN}.")


def inside(root: Path, file: str) -> bool:
    """Whether `file` names a place inside the resolved folder `root`, links followed."""
    try:
        return (root / file).resolve().is_relative_to(root)
    except (OSError, ValueError):  # a null byte, or a name that the system cannot have
        return False
