"""Access to the LanceDB table of an index, with LanceDB errors converted to BadInput."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeGuard

import pyarrow as pa

from sfumato.errors import BadInput
from sfumato.files import printable
from sfumato.retrieval.storage_errors import storage_reason

TABLE = "images"


def local_folder(uri: str) -> Path | None:
    """The folder of an index that is a path or a file:// URI; None for object storage and servers."""
    if uri.startswith("file:/"):
        return Path(uri.removeprefix("file:").removeprefix("//")).expanduser()
    return None if "://" in uri else Path(uri).expanduser()


def refuse_other_files(uri: str) -> None:
    """Raise BadInput for a local folder without an index, unless it is missing, empty or an index being created."""
    place = local_folder(uri)
    if place is not None and place.is_dir() and any(each.name != f"{TABLE}.lance" for each in place.iterdir()):
        raise BadInput(f"{printable(uri)} exists and is not an index of images: name a new folder.")


def connect(uri: str) -> Any:
    """Connect to a LanceDB database; a missing local folder is created.

    Raises:
        BadInput: LanceDB is not installed, or the URI cannot be used or names a file.
    """
    os.environ.setdefault("LANCEDB_LOG", "error")
    try:
        import lancedb
    except ImportError as error:
        raise BadInput('Search needs LanceDB: run pip install "sfumato[search]".') from error
    with explained(uri):
        place = local_folder(uri)
        for part in () if place is None else (place, *place.parents):
            if part.is_file():
                raise BadInput(f"{printable(part)} is a file, not a folder: name another place for the index.")
        return lancedb.connect(uri if place is None else str(place))


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
    """Create an empty table of images, or open the table if another process has just created it."""
    with explained(uri), locked(uri):
        if (table := find_table(database, uri)) is not None:
            return table
        try:
            return database.create_table(TABLE, schema=schema)
        except ValueError as error:
            if "already exists" not in str(error):
                raise
            return find_table(database, uri)


@contextmanager
def locked(uri: str) -> Iterator[None]:
    """Lock a local folder while a table is created: in LanceDB, concurrent creations overwrite each other.

    This has no effect on object storage, which refuses the second creation, on Windows, and on file systems without
    locks.
    """
    folder = local_folder(uri)
    try:
        import fcntl
    except ImportError:  # Windows
        fcntl = None  # type: ignore[assignment]
    if fcntl is None or folder is None or not folder.is_dir():
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
    """Merge the small files of a table; skipped on a conflict with another process, which merges them when it ends."""
    try:
        table.optimize()
    except RuntimeError as error:
        if "commit conflict" not in str(error):
            raise


def build_ann(table: Any, column: str) -> None:
    """Build an approximate nearest-neighbour index of one column: IVF with scalar quantisation, cosine distance."""
    from lancedb.index import IvfSq

    table.create_index(column, config=IvfSq(distance_type="cosine"), replace=True)


def quoted(text: str) -> str:
    """Quote a text as an SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def is_of_storage(error: BaseException | None) -> TypeGuard[Exception]:
    """Whether LanceDB or its storage raised an error; False for a BadInput."""
    kinds = OSError | RuntimeError | ValueError | pa.ArrowException
    return isinstance(error, kinds) and not isinstance(error, BadInput)


class explained:
    """Context manager that converts errors of LanceDB and its storage to BadInput."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if is_of_storage(error):
            remote = "" if local_folder(self.uri) else "; check the URI, the network and the credentials"
            why = storage_reason(error).rstrip(".")
            raise BadInput(f"The index {printable(self.uri)} cannot be used: {why}{remote}.") from error
