"""An index of images: one LanceDB table with a content and a style descriptor for every image.

Every write adds or replaces complete rows in one transaction. The index therefore stays readable if a process is
killed, and several processes may write at the same time. The URI of the table may be a local folder, object storage
(s3://, gs://, az://) or a LanceDB server (db://).
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sfumato.errors import BadInput
from sfumato.files import printable
from sfumato.retrieval.columns import KEY_FIELD, OWN, VECTORS, as_column, check_columns, column_kinds
from sfumato.retrieval.database import (
    build_ann,
    connect,
    create_table,
    explained,
    find_table,
    local_folder,
    merge_files,
    quoted,
    refuse_other_files,
)
from sfumato.retrieval.files import ImageFile, Stamp, located
from sfumato.style.describers import MODALITIES, Describers, Vectors
from sfumato.text_files import has_lone_surrogate, parse_json

KEY = b"sfumato"
FORMAT = "sfumato.image-index.3"
STAMP = ("bytes", "modified", "metadata_digest")
"""Columns that are compared to detect changed files."""
ANN_ROWS = 100_000
"""Up to this number of rows every search is exact; for larger tables an approximate index is used."""
_WHOLE = "run `sfumato index` on a folder of images first"


@dataclass(frozen=True, eq=False)
class ImageIndex:
    """An open index.

    Attributes:
        table: the LanceDB table.
        uri: URI of the table, for messages.
        about: fingerprints, dimensions and names of the encoders of its descriptors.
    """

    table: Any
    uri: str
    about: Mapping[str, Any]

    @classmethod
    def open(cls, uri: str) -> "ImageIndex":
        """Open an index.

        Raises:
            BadInput: LanceDB is not installed, there is no index at the URI, or sfumato did not create it.
        """
        place = local_folder(uri)
        if place is not None and not place.is_dir():
            raise BadInput(f"There is no index {printable(uri)}: {_WHOLE}.")
        table = find_table(connect(uri), uri)
        if table is None:
            raise BadInput(f"{printable(uri)} is not an index of images: {_WHOLE}.")
        return cls(table, uri, _about(table.schema, uri))

    @classmethod
    def create(cls, uri: str, describers: Describers, files: Sequence[ImageFile]) -> "ImageIndex":
        """Create an index with the columns of the files, or open an existing index.

        Raises:
            BadInput: as `open`; or an existing index has descriptors of other encoders, or cannot store a column of the
                files.
        """
        database = connect(uri)
        kinds = column_kinds(files)
        if (table := find_table(database, uri)) is None:
            refuse_other_files(uri)
            table = cls._created(database, uri, describers, kinds)
        index = cls(table, uri, _about(table.schema, uri))
        index.check_describers(describers)
        check_columns(files, table.schema, uri)
        return index

    @staticmethod
    def _created(database: Any, uri: str, describers: Describers, kinds: Mapping[str, pa.DataType]) -> Any:
        """Create a table, or open it if another process has just created it."""
        about: dict[str, Any] = {"format": FORMAT, **{name: _encoder(describers, name) for name in MODALITIES}}
        vectors = [(VECTORS[name], pa.list_(pa.float32(), about[name]["dimension"])) for name in MODALITIES]
        columns = [KEY_FIELD, *list(OWN.items())[1:], *kinds.items(), *vectors]
        schema = pa.schema(columns, metadata={KEY: json.dumps(about)})
        return create_table(database, uri, schema)

    @property
    def columns(self) -> list[str]:
        """Names of the columns that can be used in a filter."""
        return [name for name in self.table.schema.names if name not in VECTORS.values()]

    def __len__(self) -> int:
        with explained(self.uri):
            return int(self.table.count_rows())

    def check_filled(self) -> None:
        """Raise BadInput if the index contains no image, or the storage cannot be read."""
        if not len(self):
            raise BadInput(f"The index {printable(self.uri)} is empty: {_WHOLE}.")

    def made_by(self, describers: Describers, modality: str) -> bool:
        """Whether the descriptors of a modality were computed with this encoder."""
        return bool(self.about[modality]["fingerprint"] == describers.of(modality).fingerprint)

    def check_describers(self, describers: Describers, modalities: Iterable[str] = MODALITIES) -> None:
        """Check that the descriptors of the index were computed with these encoders.

        Raises:
            BadInput: they were not; the message names the option for the right encoder.
        """
        for name in modalities:
            own, given = self.about[name], describers.of(name).fingerprint
            if not self.made_by(describers, name):
                raise BadInput(
                    f"The {name} descriptors of {printable(self.uri)} are of another encoder (fingerprint "
                    f"{own['fingerprint'][:12]}, not {given[:12]}): give that one with --{name}-encoder, or make a new "
                    "index."
                )

    def known(self) -> dict[str, Stamp]:
        """The stamp of every file in the index, by path. Raises BadInput if the storage cannot be read."""
        found: dict[str, Stamp] = {}
        with explained(self.uri):
            for batch in self.table.search().select(["path", *STAMP]).to_batches():
                part = batch.to_pydict()
                found.update(zip(part["path"], zip(*(part[name] for name in STAMP), strict=True), strict=True))
        return found

    def stored(self, files: Sequence[ImageFile], modality: str) -> dict[Path, Vectors]:
        """Descriptors [d] of the files that are in the index with the same size and modification time, by path.

        Raises:
            BadInput: the storage cannot be read.
        """
        paths = {str(located(file.path)): file for file in files}
        listed = ", ".join(quoted(path) for path in paths if not has_lone_surrogate(path))
        if not listed:
            return {}
        with explained(self.uri):
            chosen = self.table.search().where(f"path IN ({listed})").select(["path", *STAMP, VECTORS[modality]])
            rows = chosen.to_list()
        found: dict[Path, Vectors] = {}
        for row in rows:
            file = paths[row["path"]]
            if file.stamp is not None and file.stamp[:2] == (row["bytes"], row["modified"]):
                found[file.path] = np.array(row[VECTORS[modality]], np.float32)
        return found

    def paths_of(self, file: Path) -> list[str]:
        """Paths in the index that may name a file, also through links: its own, and those of files of its size.

        Raises:
            BadInput: the storage cannot be read.
        """
        if not file.exists():
            return []
        names = {str(located(file)), os.path.realpath(file)}
        listed = [f"path = {quoted(name)}" for name in names if not has_lone_surrogate(name)]
        condition = " OR ".join([*listed, f"bytes = {file.stat().st_size}"])
        with explained(self.uri):
            return [row["path"] for row in self.table.search().where(condition).select(["path"]).to_list()]

    def add(self, rows: Sequence[Mapping[str, Any]], vectors: Mapping[str, Vectors]) -> None:
        """Add rows, or replace rows with the same path, in one transaction.

        Args:
            rows: the columns of every row; missing ones are null. Paths must be unique.
            vectors: the descriptors, [n,d] each.

        Raises:
            BadInput: the storage cannot be written.
        """
        schema = self.table.schema
        descriptors = {VECTORS[name]: as_column(each) for name, each in vectors.items()}
        columns = [
            descriptors[name]
            if name in descriptors
            else pa.array([row.get(name) for row in rows], schema.field(name).type)
            for name in schema.names
        ]
        data = pa.Table.from_arrays(columns, schema=schema)
        with explained(self.uri):
            self.table.merge_insert("path").when_matched_update_all().when_not_matched_insert_all().execute(data)

    def finish(self) -> None:
        """Merge small files and, for more than `ANN_ROWS` rows, build or update the approximate indices."""
        with explained(self.uri):
            merge_files(self.table)
            if len(self) <= ANN_ROWS:
                return
            indexed = {column for each in self.table.list_indices() for column in each.columns}
            for column in VECTORS.values():
                if column not in indexed:
                    build_ann(self.table, column)


def _encoder(describers: Describers, name: str) -> dict[str, Any]:
    encoder = describers.of(name)
    return {"fingerprint": encoder.fingerprint, "dimension": encoder.dimension}


def _about(schema: pa.Schema, uri: str) -> Mapping[str, Any]:
    """Metadata of the encoders in the schema. Raises BadInput for a table that `create` did not create."""
    try:
        about = parse_json((schema.metadata or {})[KEY].decode(), f"{printable(uri)}: its description", _WHOLE)
        kinds = {VECTORS[name]: pa.list_(pa.float32(), about[name]["dimension"]) for name in MODALITIES}
        valid = about["format"] == FORMAT and all(isinstance(about[name]["fingerprint"], str) for name in MODALITIES)
        if not valid or any(schema.field(name).type != kind for name, kind in (OWN | kinds).items()):
            raise ValueError("other columns")
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(
            f"{printable(uri)} contains a table of another program or version: run `sfumato index` again, with a new "
            "folder as --out."
        ) from error
    return dict(about)
