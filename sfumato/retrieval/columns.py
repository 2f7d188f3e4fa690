"""Columns of an index: those of every index, those of the files, and the descriptors."""

from collections.abc import Sequence

import pyarrow as pa

from sfumato.errors import BadInput
from sfumato.retrieval.files import ImageFile, Value
from sfumato.style.describers import MODALITIES, Vectors

OWN = {
    "path": pa.string(),
    "digest": pa.string(),
    "bytes": pa.int64(),
    "modified": pa.int64(),
    "metadata_digest": pa.string(),
}
"""Columns of every index: absolute path, SHA-256 of the scaled pixels, size in bytes and time of the file, SHA-256 of
the other columns."""
KEY_FIELD = pa.field("path", pa.string(), nullable=False, metadata={"lance-schema:unenforced-primary-key": "true"})
"""The column by which rows are replaced. As the primary key it makes runs at the same time add a file only once."""
VECTORS = {name: f"{name}_vector" for name in MODALITIES}
"""Columns of the descriptors, by modality."""


def column_kinds(files: Sequence[ImageFile]) -> dict[str, pa.DataType]:
    """Columns of the files with their types: text, or number where all values are numbers or missing.

    Raises:
        BadInput: a column has a name of `OWN` or of a descriptor.
    """
    kinds: dict[str, pa.DataType] = {}
    for file in files:
        for name, value in file.columns.items():
            if name in OWN or name in VECTORS.values():
                raise BadInput(f"The column {name!r} of the images has the name of a column of the index: rename it.")
            if kinds.get(name) != pa.string():
                kinds[name] = pa.string() if isinstance(value, str) else pa.float64()
    return kinds


def as_kind(value: Value, kind: pa.DataType) -> Value:
    """A value of a column of this type: numbers become text in a column of texts."""
    return f"{value:g}" if kind == pa.string() and isinstance(value, float) else value


def as_column(vectors: Vectors) -> pa.FixedSizeListArray:
    """Descriptors [n,d] as a column."""
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
