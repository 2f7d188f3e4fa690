"""Indexing of a folder: compute the descriptors of new and changed images; an interrupted run can be resumed."""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.errors import BadInput
from sfumato.files import printable
from sfumato.retrieval.columns import as_kind
from sfumato.retrieval.files import ImageFile, Stamp
from sfumato.retrieval.index import STAMP, ImageIndex
from sfumato.style.describers import MODALITIES, Describers
from sfumato.text_files import has_lone_surrogate


@dataclass
class Indexing:
    """State of an indexing run, updated after every batch.

    Attributes:
        total: number of images, without duplicate paths.
        unchanged: number of images that were already in the index.
        added: number of images that have been added or replaced.
        changed: number of these that replaced an older version of their file or columns.
        unreadable: error messages of the files and folders that could not be read; the next run tries them again.
    """

    total: int
    unchanged: int = 0
    added: int = 0
    changed: int = 0
    unreadable: list[str] = field(default_factory=list)

    @property
    def done(self) -> int:
        """Number of processed images."""
        return self.unchanged + self.added + len(self.unreadable)


@dataclass(frozen=True, eq=False)
class _Read:
    """A decoded image: its row of the table without descriptors, and the squares for both encoders."""

    row: dict[str, Any]
    squares: list[NDArray[np.uint8]]


def index_files(
    index: ImageIndex, describers: Describers, files: Sequence[ImageFile], *, batch: int = 64, threads: int = 4
) -> Iterator[Indexing]:
    """Add the images that are not in the index, and replace those that have changed.

    Args:
        index: the index; its encoders must be `describers`.
        describers: the encoders.
        files: the images; of several entries with one path, the last is used.
        batch: number of images that are encoded and added together; an interrupted run loses at most one batch.
        threads: number of threads that decode images.

    Yields:
        The state after every batch and at the end; always the same object.

    Raises:
        BadInput: the storage cannot be written.
    """
    known = index.known()
    files = list({file.path: file for file in files}.values())
    state = Indexing(len(files))
    wanted: list[tuple[ImageFile, Stamp]] = []
    for file in files:
        stamp = file.stamp
        if stamp is not None and known.get(str(file.path)) == stamp:
            state.unchanged += 1
        else:
            wanted.append((file, stamp or (0, 0, "")))
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(wanted), batch):
            part = wanted[start : start + batch]
            found = list(pool.map(lambda each: _read(each[0], each[1], describers.sizes), part))
            state.unreadable += [each for each in found if isinstance(each, str)]
            read = [each for each in found if isinstance(each, _Read)]
            if read:
                _add(index, describers, read)
            state.added += len(read)
            state.changed += sum(each.row["path"] in known for each in read)
            yield state
    index.finish()
    yield state


def _add(index: ImageIndex, describers: Describers, read: Sequence[_Read]) -> None:
    vectors = {
        name: describers.images(name, [each.squares[number] for each in read]) for number, name in enumerate(MODALITIES)
    }
    schema = index.table.schema
    rows = [{name: as_kind(value, schema.field(name).type) for name, value in each.row.items()} for each in read]
    index.add(rows, vectors)


def _read(file: ImageFile, stamp: Stamp, sizes: Sequence[int]) -> _Read | str:
    """Decode an image; returns an error message if that fails."""
    if has_lone_surrogate(str(file.path)):
        return f"{printable(file.path)}: this path is not UTF-8, as an index needs it: rename it."
    try:
        squares = file.squares(sizes)
    except BadInput as error:
        return str(error)
    digest = hashlib.sha256(squares[-1].tobytes()).hexdigest()
    row = {"path": str(file.path), "digest": digest, **dict(zip(STAMP, stamp, strict=True))}
    return _Read(row | dict(file.columns), squares)
