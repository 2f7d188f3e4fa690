"""The LanceDB table of an index, and its errors as one sentence."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeGuard

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


def create_table(database: Any, uri: str, schema: pa.Schema) -> Any:
    """An empty table of images, or that which another process has created in the meantime."""
    with explained(uri), locked(uri):
        table = find_table(database, uri)
        return database.create_table(TABLE, schema=schema) if table is None else table


@contextmanager
def locked(uri: str) -> Iterator[None]:
    """Hold a lock on a local folder: LanceDB lets a table that is being created overwrite another one.

    Without effect on object storage, on Windows, and on file systems without locks.
    """
    folder = uri.removeprefix("file://")
    try:
        import fcntl
    except ImportError:  # Windows
        fcntl = None  # type: ignore[assignment]
    if fcntl is None or not os.path.isdir(folder):
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def merge_files(table: Any) -> None:
    """Merge the small files of a table, unless another process does so or writes, which will merge them at its end."""
    try:
        table.optimize()
    except RuntimeError as error:
        if "commit conflict" not in str(error):
            raise


def build_ann(table: Any, column: str) -> None:
    """Build an approximate index of one column: inverted lists with scalar quantisation, by cosine."""
    from lancedb.index import IvfSq

    table.create_index(column, config=IvfSq(distance_type="cosine"), replace=True)


def quoted(text: str) -> str:
    """A text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def is_of_storage(error: BaseException | None) -> TypeGuard[Exception]:
    """Whether LanceDB or its storage raised an error; a BadInput is one already."""
    kinds = OSError | RuntimeError | ValueError | pa.ArrowException
    return isinstance(error, kinds) and not isinstance(error, BadInput)


class explained:
    """Context manager that turns errors of LanceDB and its storage into BadInput with one sentence."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if is_of_storage(error):
            raise BadInput(f"The index {printable(self.uri)} cannot be used: {first_line(error)}") from error
