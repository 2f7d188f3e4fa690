"""Folders of captioned images in the ImageFolder format of Hugging Face Datasets: images and a `metadata.jsonl`.

Each line of the file is one JSON object with at least `file_name`, relative to the folder, and `text`, which only an
index of images (`sfumato.retrieval`) does not need.
"""

from collections.abc import Iterator, Mapping
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
        A table with the columns `file` and `text`, in the order of the lines; an image may be missing.

    Raises:
        BadInput: a line is not an object with both keys, or its image is outside the folder; the message gives the
            number of the line.
    """
    rows = [{"file": file, "text": _text(entry, "text", where)} for where, file, entry in read_entries(folder)]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def read_entries(folder: Path) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """The lines of `metadata.jsonl`, of which only `file_name` is checked; the image may be missing.

    Yields:
        The line in words for error messages, `file_name`, and all keys.

    Raises:
        BadInput: a line is not an object with `file_name`, the image is outside the folder, or there is no line.
    """
    path, empty = folder / METADATA, True
    for number, entry in read_json_lines(path, "write one JSON object per line, as UTF-8", lone_surrogates=True):
        where, empty = f"{path} line {number}", False
        if not isinstance(entry, dict):
            raise BadInput(f"{where} is not a JSON object: write {{...}} with the keys file_name and text.")
        file = _text(entry, "file_name", where)
        if not inside(folder, file):
            raise BadInput(f"{where}: file_name {file!r} lies outside the folder; name an image inside it.")
        yield where, file, entry
    if empty:
        raise BadInput(f'{path} is empty: give it one line per image, {{"file_name": ..., "text": ...}}.')


def _text(entry: Mapping[str, Any], key: str, where: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value.strip() or has_lone_surrogate(value):
        raise BadInput(f"{where}: the key {key!r} is missing, empty or not text; give it a text.")
    return value.strip()
