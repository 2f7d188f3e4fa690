"""Folders of captioned images in the `imagefolder` convention: pictures and a `metadata.jsonl`.

Each line of the file is one JSON object with at least `file_name`, relative to the folder, and `text`.
"""

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa

from sfumato.data.corpus import inside
from sfumato.errors import BadInput

METADATA = "metadata.jsonl"

#: Halves of a surrogate pair, which JSON can spell and no file can hold.
_LONE = re.compile("[\ud800-\udfff]")

SCHEMA = pa.schema([("file", pa.string()), ("text", pa.string())])


def read_metadata(folder: Path) -> pa.Table:
    """The columns `file` and `text` of a folder's metadata, in the order of its lines.

    Raises BadInput, with the number of the line, for a line that is no object with both keys, and for a
    picture that is missing or lies outside the folder.
    """
    path = folder / METADATA
    try:
        # Not splitlines, which would also cut at separators that JSON allows within a text.
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not UTF-8 text: save it as UTF-8.") from error
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}.") from error
    rows = [_row(line, f"{path} line {n}", folder) for n, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise BadInput(f'{path} is empty: give it one line per picture, {{"file_name": ..., "text": ...}}.')
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _row(line: str, where: str, folder: Path) -> dict[str, str]:
    try:
        entry = json.loads(line)
    except ValueError as error:
        raise BadInput(f"{where} is not JSON ({error}): write one object per line.") from error
    if not isinstance(entry, dict):
        raise BadInput(f"{where} is not a JSON object: write {{...}} with the keys file_name and text.")
    file, text = _text(entry, "file_name", where), _text(entry, "text", where)
    if not inside(folder.resolve(), file):
        raise BadInput(f"{where}: file_name {file!r} lies outside the folder; name a picture inside it.")
    if not (folder / file).is_file():
        raise BadInput(f"{where}: there is no picture {file!r} in {folder}.")
    return {"file": file, "text": text}


def _text(entry: dict[str, Any], key: str, where: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value.strip() or _LONE.search(value):
        raise BadInput(f"{where}: the key {key!r} is missing, empty or not text.")
    return value.strip()
