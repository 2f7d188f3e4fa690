"""Indexing of a folder: every image is read and described once; a run that was killed goes on where it was."""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.errors import BadInput
from sfumato.retrieval.columns import as_kind
from sfumato.retrieval.files import ImageFile
from sfumato.retrieval.index import ImageIndex
from sfumato.style.describers import MODALITIES, Describers


@dataclass
class Indexing:
    """State of a run, updated after every batch.

    Attributes:
        total: number of images of the folder.
        unchanged: how many were in the index already.
        added: how many have been added.
        changed: how many of the added ones replaced an older version of their file.
        unreadable: files that could not be read, with the reason; they are tried again by the next run.
    """

    total: int
    unchanged: int = 0
    added: int = 0
    changed: int = 0
    unreadable: list[str] = field(default_factory=list)

    @property
    def done(self) -> int:
        """Number of images that are finished."""
        return self.unchanged + self.added + len(self.unreadable)


@dataclass(frozen=True, eq=False)
class _Read:
    """A decoded image: the row of its table, and the squares for both encoders."""

    row: dict[str, Any]
    squares: list[NDArray[np.uint8]]


def index_files(
    index: ImageIndex, describers: Describers, files: Sequence[ImageFile], *, batch: int = 64, threads: int = 4
) -> Iterator[Indexing]:
    """Add the images that the index does not have, or has in an older version.

    Args:
        index: the index; its encoders must be `describers`.
        describers: the encoders.
        files: the images.
        batch: images that are described and added together; what a killed run loses.
        threads: threads that decode images.

    Yields:
        The state, the same object, after every batch and at the end.

    Raises:
        BadInput: the storage cannot be written.
    """
    known = index.known()
    state = Indexing(len(files))
    wanted: list[tuple[ImageFile, tuple[int, int]]] = []
    for file in files:
        stamp = _stamp(file)
        if stamp is not None and known.get(str(file.path)) == stamp:
            state.unchanged += 1
        else:
            wanted.append((file, stamp or (0, 0)))
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(wanted), batch):
            part = wanted[start : start + batch]
            found = list(pool.map(lambda each: _read(each[0], each[1], describers.sizes), part))
            state.unreadable += [each for each in found if isinstance(each, str)]
            read = [each for each in found if isinstance(each, _Read)]
            replaced = [each for each in read if each.row["path"] in known]
            for group, replace in ((replaced, True), ([each for each in read if each not in replaced], False)):
                if group:
                    _add(index, describers, group, replace)
            state.added += len(read)
            state.changed += len(replaced)
            yield state
    index.finish()
    yield state


def _add(index: ImageIndex, describers: Describers, read: Sequence[_Read], replace: bool) -> None:
    vectors = {
        name: describers.images(name, [each.squares[number] for each in read]) for number, name in enumerate(MODALITIES)
    }
    schema = index.table.schema
    rows = [{name: as_kind(value, schema.field(name).type) for name, value in each.row.items()} for each in read]
    index.add(rows, vectors, replace=replace)


def _stamp(file: ImageFile) -> tuple[int, int] | None:
    """Size and time of a file; None if it does not exist."""
    try:
        about = file.path.stat()
    except OSError:
        return None
    return about.st_size, about.st_mtime_ns


def _read(file: ImageFile, stamp: tuple[int, int], sizes: Sequence[int]) -> _Read | str:
    """Decode an image, or say in a sentence why not."""
    try:
        squares = file.squares(sizes)
    except BadInput as error:
        return str(error)
    digest = hashlib.sha256(squares[-1].tobytes()).hexdigest()
    row = {"path": str(file.path), "digest": digest, "bytes": stamp[0], "modified": stamp[1]}
    return _Read(row | dict(file.columns), squares)
