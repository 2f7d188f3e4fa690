"""The journal of a benchmark: one JSON line per finished edit; it stays valid if a run is killed."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sfumato.errors import BadInput
from sfumato.partial_files import hold
from sfumato.paths import check_inside
from sfumato.regular_files import check_regular
from sfumato.text_files import MAX_LINE_BYTES, decoded, parse_json

NAME = "journal.jsonl"
Record = dict[str, Any]
_OTHER = "choose another --out, or remove it"


class Journal:
    """The journal, opened for one run; `add` returns when the line is written to disk.

    The first line describes the measurement, which prevents a mixture of results of different models or evaluators. An
    incomplete last line of a killed process is removed. A record with an "error" does not count as finished, so the
    next run repeats the edit.

    Args:
        folder: folder of the journal; it is created if it does not exist.
        about: fields that describe the measurement, as JSON values; they must equal those of an existing journal.
        provenance: further fields of the first line, such as versions and device, which may differ between runs.

    Raises:
        BadInput: the journal belongs to another measurement, is damaged, or is being written by another process.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any], provenance: Mapping[str, Any] | None = None) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            check_inside(folder, NAME)
            if os.path.lexists(folder / NAME):
                check_regular(folder / NAME, _OTHER)
            self._file = open(folder / NAME, "a+b")  # noqa: SIM115 - closed by close()
        except OSError as error:
            raise BadInput(f"{folder} cannot be written ({error.strerror}): {_OTHER}.") from error
        try:
            hold(self._file.fileno())
        except BlockingIOError as error:
            self._file.close()
            raise BadInput(f"another run is writing to {folder}: wait for it, or choose another --out.") from error
        try:
            self.records = self._read(folder, dict(about), dict(provenance or {}))
        except BaseException:
            self._file.close()
            raise

    def _read(self, folder: Path, about: Record, provenance: Record) -> dict[tuple[str, str], Record]:
        """Read the records of an earlier run; an incomplete last line of a killed process is removed."""
        self._file.seek(0)
        lines = self._lines(f"{folder / NAME} is damaged:")
        first = next(lines, None)
        if first is None:
            self._file.truncate(0)
            self._write(about | provenance)
            return {}
        records = list(lines)
        if not isinstance(first, dict) or not all(map(_is_record, records)):
            raise BadInput(f"{folder / NAME} is damaged: {_OTHER}.")
        for name, value in about.items():
            if first.get(name) != value:
                raise BadInput(f"{folder} contains results of another {name}: {_OTHER}.")
        self._file.truncate(self._complete)
        return {(record["setting"], record["item"]): record for record in records}

    def _lines(self, damaged: str) -> Iterator[Any]:
        """Yield the values of all complete lines; `_complete` is then their size in bytes. Raises BadInput."""
        self._complete = 0
        for number, line in enumerate(iter(lambda: self._file.readline(MAX_LINE_BYTES), b""), start=1):
            if not line.endswith(b"\n"):
                if len(line) == MAX_LINE_BYTES:
                    raise BadInput(f"{damaged} line {number} has more than {MAX_LINE_BYTES:,} bytes: {_OTHER}.")
                return
            self._complete += len(line)
            where = f"{damaged} line {number}"
            yield parse_json(decoded(line, where, _OTHER), where, _OTHER)

    def done(self, setting: str, item: str, stamp: str = "") -> bool:
        """Whether an edit is finished, with the same stamp if both stamps are known."""
        record = self.records.get((setting, item), {"error": "not tried"})
        return "error" not in record and (not stamp or record.get("stamp", stamp) == stamp)

    def add(self, record: Record) -> None:
        """Record a finished or failed edit. NaN and infinity are written as by Python's `json`."""
        self._write(record)
        self.records[record["setting"], record["item"]] = record

    def _write(self, record: Record) -> None:
        self._file.write(json.dumps(record).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file, so that another run can open it."""
        self._file.close()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


def _is_record(value: Any) -> bool:
    """Whether a line has the types that `add` writes; optional fields may be missing."""
    if not isinstance(value, dict) or not {"setting", "item"} <= set(value):
        return False
    texts = [value[name] for name in ("setting", "item", "stamp", "error") if name in value]
    scores = value.get("scores", {})
    costs = [number for name, number in value.items() if name not in ("setting", "item", "stamp", "error", "scores")]
    numbers = [*scores.values(), *costs] if isinstance(scores, dict) else [None]
    return all(isinstance(text, str) for text in texts) and all(type(number) in (int, float) for number in numbers)
