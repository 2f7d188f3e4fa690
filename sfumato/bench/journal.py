"""What a benchmark has done so far: a file of lines, one for each finished edit, that survives a kill at any moment."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sfumato.errors import BadInput
from sfumato.files import hold

NAME = "journal.jsonl"
Record = dict[str, Any]


class Journal:
    """Opened for one run; a line is on the disk before `add` returns.

    The first line says what is measured with what: results of another model or judge are never mixed in. A line that a
    kill cut short is dropped. A record with an "error" counts as not done, so that the next run tries it again.

    Args:
        folder: where it lies; made where it does not exist.
        about: what all lines share, as JSON values.
        beside: what the first line says besides, for information: other versions and devices agree to rounding.

    Raises:
        BadInput: it belongs to another measurement, is damaged, or is being written by another process.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any], beside: Mapping[str, Any] | None = None) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = open(folder / NAME, "a+b")  # noqa: SIM115 - closed by close()
        except OSError as error:
            raise BadInput(f"{folder} cannot be written ({error.strerror}): choose another --out.") from error
        try:
            hold(self._file.fileno())
        except BlockingIOError as error:
            self._file.close()
            raise BadInput(f"another run is writing to {folder}: wait for it, or choose another --out.") from error
        try:
            self.records = self._read(folder, dict(about), dict(beside or {}))
        except BaseException:
            self._file.close()
            raise

    def _read(self, folder: Path, about: Record, beside: Record) -> dict[tuple[str, str], Record]:
        self._file.seek(0)
        whole, _, torn = self._file.read().rpartition(b"\n")
        if torn:
            self._file.truncate(len(whole) + 1 if whole else 0)
        lines = whole.splitlines()
        if not lines:
            self._write(about | beside)
            return {}
        try:
            first, *records = (json.loads(line) for line in lines)
            found = {(record["setting"], record["item"]): record for record in records}
        except (ValueError, KeyError, TypeError) as error:
            raise BadInput(f"{folder / NAME} is damaged: choose another --out, or remove it.") from error
        for name, value in about.items():
            if first.get(name) != value:
                raise BadInput(f"{folder} holds results of another {name}: choose another --out, or remove it.")
        return found

    def done(self, setting: str, item: str, stamp: str = "") -> bool:
        """Whether an edit is finished, and of pictures with this stamp where both are known."""
        record = self.records.get((setting, item), {"error": "not tried"})
        return "error" not in record and (not stamp or record.get("stamp", stamp) == stamp)

    def add(self, record: Record) -> None:
        """Note a finished edit, or one that failed. NaN and infinity are written as Python's JSON writes them."""
        self._write(record)
        self.records[record["setting"], record["item"]] = record

    def _write(self, record: Record) -> None:
        self._file.write(json.dumps(record).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Let another run have it."""
        self._file.close()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()
