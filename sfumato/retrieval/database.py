"""The LanceDB table of an index, and its errors as one sentence."""

import os
from typing import Any

import pyarrow as pa

from sfumato.errors import BadInput, first_line
from sfumato.files import printable

TABLE = "images"


def connect(uri: str) -> Any:
    """Connect to a LanceDB database. Raises BadInput if LanceDB is not installed or the URI cannot be used."""
    os.environ.setdefault("LANCE_LOG", "error")
    try:
        import lancedb
    except ImportError as error:
        raise BadInput('Search needs LanceDB: run pip install "sfumato[search]".') from error
    with explained(uri):
        return lancedb.connect(uri)


def find_table(database: Any, uri: str) -> Any:
    """The table of images, or None if there is none. Raises BadInput if the storage cannot be read."""
    with explained(uri):
        try:
            return database.open_table(TABLE)
        except ValueError as error:
            if "not found" in str(error):
                return None
            raise


def build_ann(table: Any, column: str) -> None:
    """Build an approximate index of one column: inverted lists with scalar quantisation, by cosine."""
    from lancedb.index import IvfSq

    table.create_index(column, config=IvfSq(distance_type="cosine"), replace=True)


def quoted(text: str) -> str:
    """A text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


class explained:
    """Context manager that turns errors of LanceDB and its storage into BadInput with one sentence."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError | RuntimeError | ValueError | pa.ArrowException):
            raise BadInput(f"The index {printable(self.uri)} cannot be used: {first_line(error)}") from error
