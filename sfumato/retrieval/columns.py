"""Columns of an index: those of every index, those of the files, and the descriptors."""

from collections.abc import Sequence

import pyarrow as pa

from sfumato.errors import BadInput
from sfumato.files import printable
from sfumato.retrieval.files import ImageFile, Value
from sfumato.style.describers import MODALITIES, Vectors

OWN = {
    "path": pa.string(),
    "digest": pa.string(),
    "bytes": pa.int64(),
    "modified": pa.int64(),
    "metadata_digest": pa.string(),
}
"""Columns of every index: absolute path, SHA-256 of the scaled pixels, size of the file in bytes, its modification time
in nanoseconds, and SHA-256 of the metadata columns."""
KEY_FIELD = pa.field("path", pa.string(), nullable=False, metadata={"lance-schema:unenforced-primary-key": "true"})
"""The column by which rows are replaced. As the primary key it prevents concurrent runs from adding a file twice."""
VECTORS = {name: f"{name}_vector" for name in MODALITIES}
"""Columns of the descriptors, by modality."""
COMPUTED = ("score", "cosines")
"""Columns that a search adds to those of an image."""
_OF_LANCE = (
    "_distance", "_rowid", "_rowaddr", "_rowoffset", "_row_created_at_version", "_row_last_updated_at_version", "*",
)  # fmt: skip
"""Column names that LanceDB reserves."""
_KINDS = (pa.float64(), pa.int64(), pa.string())
"""Types of columns; the first type that represents all values exactly is used."""
_NOT_IN_NAMES = (".", "`", "\0")
"""Characters that LanceDB does not accept in the name of a column."""


def column_kinds(files: Sequence[ImageFile]) -> dict[str, pa.DataType]:
    """Columns of the files with the types that represent all of their values exactly.

    The type is double if all values are missing or are numbers that a double represents exactly; 64-bit integer if all
    are integers and some exceed 2^53; otherwise text.

    Raises:
        BadInput: a column has a name that an index or LanceDB uses itself, or that LanceDB does not accept.
    """
    kinds: dict[str, list[pa.DataType]] = {}
    for file in files:
        for name, value in file.columns.items():
            if name not in kinds:
                _check_name(name)
                kinds[name] = list(_KINDS)
            kinds[name] = [kind for kind in kinds[name] if _keeps(kind, value)]
    return {name: possible[0] for name, possible in kinds.items()}


def _check_name(name: str) -> None:
    """Raise BadInput for a column name that is reserved or that LanceDB does not support."""
    what = f"The column '{printable(name)}' of the images"
    if name in OWN or name in VECTORS.values():
        raise BadInput(f"{what} has the name of a column of the index: rename it.")
    if name in COMPUTED:
        raise BadInput(f"{what} has the name of a result of the search: rename it.")
    if name in _OF_LANCE:
        raise BadInput(f"{what} has a name that LanceDB uses itself: rename it.")
    if not name or any(each in name for each in _NOT_IN_NAMES):
        raise BadInput(f"{what} has an empty name, or one with a dot, a backtick or a null character: rename it.")


def check_columns(files: Sequence[ImageFile], schema: pa.Schema, uri: str) -> None:
    """Check that an index can store all columns of the files exactly.

    Raises:
        BadInput: the index lacks a column, or has one of a type that cannot represent a value.
    """
    for file in files:
        for name, value in file.columns.items():
            if name not in schema.names:
                raise BadInput(
                    f"{printable(uri)} has no column {name!r}, which {printable(file.path)} has: index these images in "
                    "a new folder."
                )
            if not _keeps(kind := schema.field(name).type, value):
                raise BadInput(
                    f"The column {name!r} of {printable(uri)} is {kind} and cannot hold {value!r:.80} of "
                    f"{printable(file.path)}: index these images in a new folder."
                )


def _keeps(kind: pa.DataType, value: Value) -> bool:
    """Whether a column of this type represents a value exactly."""
    if value is None or kind == pa.string():
        return True
    if kind == pa.int64():
        return isinstance(value, int) and -(2**63) <= value < 2**63
    return isinstance(value, float) or (isinstance(value, int) and abs(value) <= 2**53)


def as_kind(value: Value, kind: pa.DataType) -> Value:
    """Convert a value for a column of this type: in a text column, numbers become text with all digits."""
    return repr(value) if kind == pa.string() and isinstance(value, int | float) else value


def as_column(vectors: Vectors) -> pa.FixedSizeListArray:
    """Convert descriptors [n,d] to a column of fixed-size lists."""
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
