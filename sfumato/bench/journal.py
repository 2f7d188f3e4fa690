"""What a benchmark has done so far: a file of lines, one for each finished edit, that survives a kill at any moment."""

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
    """Opened for one run; a line is on the disk before `add` returns.

    The first line says what is measured with what: results of another model or evaluator are never mixed in. A line
    that a kill cut short is dropped. A record with an "error" counts as not done, so that the next run tries it again.

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
            self.records = self._read(folder, dict(about), dict(beside or {}))
        except BaseException:
            self._file.close()
            raise

    def _read(self, folder: Path, about: Record, beside: Record) -> dict[tuple[str, str], Record]:
        """The records of an earlier run; half a line at the end, which a kill leaves, is cut off."""
        self._file.seek(0)
        lines = self._lines(f"{folder / NAME} is damaged:")
        first = next(lines, None)
        if first is None:
            self._file.truncate(0)
            self._write(about | beside)
            return {}
        records = list(lines)
        if not isinstance(first, dict) or not all(map(_is_record, records)):
            raise BadInput(f"{folder / NAME} is damaged: {_OTHER}.")
        for name, value in about.items():
            if first.get(name) != value:
                raise BadInput(f"{folder} holds results of another {name}: {_OTHER}.")
        self._file.truncate(self._whole)
        return {(record["setting"], record["item"]): record for record in records}

    def _lines(self, damaged: str) -> Iterator[Any]:
        """The values of all whole lines; `_whole` is then how many bytes they have. Raises BadInput."""
        self._whole = 0
        for number, line in enumerate(iter(lambda: self._file.readline(MAX_LINE_BYTES), b""), start=1):
            if not line.endswith(b"\n"):
                if len(line) == MAX_LINE_BYTES:
                    raise BadInput(f"{damaged} line {number} has more than {MAX_LINE_BYTES:,} bytes: {_OTHER}.")
                return
            self._whole += len(line)
            where = f"{damaged} line {number}"
            yield parse_json(decoded(line, where, _OTHER), where, _OTHER)

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


def _is_record(value: Any) -> bool:
    """Whether a line has the types that `add` writes; what it does not say has no value."""
    if not isinstance(value, dict) or not {"setting", "item"} <= set(value):
        return False
    texts = [value[name] for name in ("setting", "item", "stamp", "error") if name in value]
    scores = value.get("scores", {})
    costs = [number for name, number in value.items() if name not in ("setting", "item", "stamp", "error", "scores")]
    numbers = [*scores.values(), *costs] if isinstance(scores, dict) else [None]
    return all(isinstance(text, str) for text in texts) and all(type(number) in (int, float) for number in numbers)
