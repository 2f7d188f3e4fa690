"""The triplets (x, y, s) of `sfumato triplets` as training data: rows of a dataset with the descriptors c_y and a_s."""

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sfumato.data.dataset import CaptionedImages
from sfumato.errors import BadInput
from sfumato.files import printable
from sfumato.regular_files import open_regular
from sfumato.retrieval.index import FORMAT
from sfumato.style.describers import Describers
from sfumato.text_files import parse_json

SELECTED = (
    "the readable images of the split 'train' of data.folder, of which styles, groups, subgroups, names, min_styles "
    "and tones of [data] select images, and pixel-equal images of a style are in it once"
)
"""Description of the training images, which must contain the output images, in messages."""
_AGAIN = "write it with `sfumato triplets`"
_MOST_ROWS = 50_000_000


@dataclass(frozen=True, eq=False)
class TripletData:
    """Triplets whose output images are in a dataset.

    Attributes:
        rows: row of the output image x in the dataset, [n].
        content: c_y, unit, [n,c].
        style: a_s, unit, [n,a].
        missing: number of triplets whose output image is not in the dataset.
    """

    rows: Int64[Tensor, " n"]
    content: Float[Tensor, "n c"]
    style: Float[Tensor, "n a"]
    missing: int

    @classmethod
    def of(cls, table: pa.Table, path: str, folder: str, data: CaptionedImages) -> "TripletData":
        """The triplets of a table whose output images are in a dataset.

        Args:
            table: the table, see `read_triplets`.
            path: its file, for the message.
            folder: folder of the dataset.
            data: the dataset, from which the output images come.

        Raises:
            BadInput: none of the output images is in the dataset.
        """
        root = os.path.abspath(folder)
        known = {os.path.normpath(os.path.join(root, file)): i for i, file in enumerate(data.table["file"].to_pylist())}
        pairs = [(i, known[each]) for i, each in enumerate(table["output"].to_pylist()) if each in known]
        if not pairs:
            raise BadInput(
                f"No output image of {printable(path)} is in {SELECTED}: {_AGAIN} from an index of {printable(root)}, "
                "or change the selection."
            )
        kept = [i for i, _ in pairs]
        return cls(
            torch.tensor([row for _, row in pairs]),
            _vectors(table, "c_y")[kept],
            _vectors(table, "a_s")[kept],
            len(table) - len(kept),
        )


def read_triplets(path: str, describers: Describers) -> pa.Table:
    """Read a table of triplets: the columns output, c_y and a_s.

    Args:
        path: the table.
        describers: the encoders, which must be those that computed the descriptors in the table.

    Raises:
        BadInput: the table cannot be read, or contains descriptors of other encoders.
    """
    table = _read(path)
    _check_encoders(path, table, describers)
    return table


def _read(path: str) -> pa.Table:
    with open_regular(path, _AGAIN) as opened:
        try:
            file = pq.ParquetFile(opened)
            if file.metadata.num_rows > _MOST_ROWS:
                raise ValueError(f"more than {_MOST_ROWS:,} rows")
            table = file.read(columns=["output", "c_y", "a_s"])
            if not all(pa.types.is_fixed_size_list(table.schema.field(name).type) for name in ("c_y", "a_s")):
                raise ValueError("other columns")
            _about(path, table)
        except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
            if isinstance(error, BadInput):
                raise
            raise BadInput(f"{printable(path)} is not a table of triplets, or is damaged: {_AGAIN}.") from error
    return table


def _check_encoders(path: str, table: pa.Table, describers: Describers) -> None:
    about = _about(path, table)
    if about.get("format") != FORMAT:
        raise BadInput(
            f"The triplets in {printable(path)} are from an index of another version: make the index again with "
            f"`sfumato index`, and {_AGAIN}."
        )
    for name in ("content", "style"):
        if about[name]["fingerprint"] != describers.of(name).fingerprint:
            raise BadInput(
                f"The triplets in {printable(path)} have {name} descriptors of another encoder: name that encoder in "
                f"network.{name}, or {_AGAIN} again."
            )


def _about(path: str, table: pa.Table) -> Any:
    """Metadata of the table about its encoders. Raises KeyError, TypeError or ValueError if there is none."""
    about = parse_json(table.schema.metadata[b"sfumato"].decode(), f"{printable(path)}: its description", _AGAIN)
    _ = [about[name]["fingerprint"] for name in ("content", "style")]
    return about


def _vectors(table: pa.Table, name: str) -> Tensor:
    column = table[name].combine_chunks()
    flat = np.array(column.flatten().to_numpy(zero_copy_only=False), np.float32)
    return torch.from_numpy(flat.reshape(len(table), column.type.list_size))
