"""Indexing of a folder: every image is read and described once; a run that was killed goes on where it was."""

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
    """State of a run, updated after every batch.

    Attributes:
        total: number of images of the folder; one that is listed twice counts once.
        unchanged: how many were in the index already.
        added: how many have been added.
        changed: how many of the added ones replaced an older version of their file or of its columns.
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
        files: the images; the last entry of a path counts.
        batch: images that are described and added together; what a killed run loses.
        threads: threads that decode images.

    Yields:
        The state, the same object, after every batch and at the end.

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
    """Decode an image, or say in a sentence why not."""
    if has_lone_surrogate(str(file.path)):
        return f"{printable(file.path)}: this path is not UTF-8, as an index needs it: rename it."
    try:
        squares = file.squares(sizes)
    except BadInput as error:
        return str(error)
    digest = hashlib.sha256(squares[-1].tobytes()).hexdigest()
    row = {"path": str(file.path), "digest": digest, **dict(zip(STAMP, stamp, strict=True))}
    return _Read(row | dict(file.columns), squares)
