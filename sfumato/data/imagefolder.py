"""Folders of captioned images in the ImageFolder format of Hugging Face Datasets: images and a `metadata.jsonl`.

Each line of the file is one JSON object with at least `file_name`, relative to the folder, and `text`.
"""

import os
from pathlib import Path
from typing import Any

import pyarrow as pa

from sfumato.errors import BadInput
from sfumato.paths import inside
from sfumato.text_files import has_lone_surrogate, read_json_lines

METADATA = "metadata.jsonl"

SCHEMA = pa.schema([("file", pa.string()), ("text", pa.string())])


def read_metadata(folder: Path) -> pa.Table:
    """Read `metadata.jsonl` of a folder.

    Returns:
        A table with the columns `file` and `text`, in the order of the lines.

    Raises:
        BadInput: a line is not an object with both keys, or its image is missing or outside the folder; the message
            gives the number of the line.
    """
    path = folder / METADATA
    entries = read_json_lines(path, "write one JSON object per line, as UTF-8", lone_surrogates=True)
    rows = [_row(entry, f"{path} line {n}", folder) for n, entry in entries]
    if not rows:
        raise BadInput(f'{path} is empty: give it one line per image, {{"file_name": ..., "text": ...}}.')
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _row(entry: Any, where: str, folder: Path) -> dict[str, str]:
    if not isinstance(entry, dict):
        raise BadInput(f"{where} is not a JSON object: write {{...}} with the keys file_name and text.")
    file, text = _text(entry, "file_name", where), _text(entry, "text", where)
    if not inside(folder, file):
        raise BadInput(f"{where}: file_name {file!r} lies outside the folder; name an image inside it.")
    if not os.path.isfile(folder / file):
        raise BadInput(f"{where}: there is no image {file!r} in {folder}; add it, or correct file_name.")
    return {"file": file, "text": text}


def _text(entry: dict[str, Any], key: str, where: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value.strip() or has_lone_surrogate(value):
        raise BadInput(f"{where}: the key {key!r} is missing, empty or not text; give it a text.")
    return value.strip()
