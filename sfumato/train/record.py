"""What a run says of itself beside its checkpoints.

recipe.json     the recipe as it stands
history.jsonl   one line for each time that training began or went on: where, when, and what had changed
log.jsonl       what single steps measured; `elapsed` counts the seconds of training up to there, all lives together
training.json   all of it in short, in the folder that the run exports

These files, and the folders that they lie in, may come from anywhere (SECURITY.md).
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import sfumato
from sfumato.errors import BadInput
from sfumato.files import explained, printable, write_text
from sfumato.networks.configs import read_table
from sfumato.networks.places import has
from sfumato.paths import check_inside
from sfumato.regular_files import check_regular, open_regular
from sfumato.text_files import MAX_LINE_BYTES, parse_json, read_json
from sfumato.train.recipe import Recipe

SUMMARY = "training.json"
_FILES = _RECIPE, _HISTORY, _LOG = "recipe.json", "history.jsonl", "log.jsonl"
_PACKAGES = ("torch", "diffusers", "transformers", "accelerate")
_GIVE = "remove it"
#: Of a `training.json`, what is looked at and of which type it is; of the run before it, the first two.
_SAID = {"samples": int, "seconds": int | float, "pictures": int, "device": str}


class Record:
    """The files of the run in `folder`; only the first process writes them.

    Raises:
        BadInput: a file that is there, or the `training.json` of the model that the run begins with, is no regular
            file of the run's folder, or cannot be read.
    """

    def __init__(self, folder: Path, recipe: Recipe) -> None:
        self.folder, self.recipe = folder, recipe
        check_inside(folder, *_FILES)
        for path in (folder / name for name in _FILES):
            if has(path):
                check_regular(path, _GIVE)
        start = recipe.network.get("start")
        self._start = read_summary(Path(start)) if start else {}

    def begin(self, step: int, samples: int, device: torch.device, processes: int) -> None:
        """Note that training goes on from `step`, and forget log lines of steps that a kill has undone."""
        self.folder.mkdir(parents=True, exist_ok=True)
        entry = {
            "step": step,
            "samples": samples,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "device": name_of(device),
            "threads": torch.get_num_threads(),
            "processes": processes,
            "changed": changes(_read(self.folder / _RECIPE), dataclasses.asdict(self.recipe)),
            "versions": {"sfumato": sfumato.__version__} | {name: version(name) for name in _PACKAGES},
        }
        self._append(_HISTORY, entry)
        write_text(self.folder / _RECIPE, json.dumps(dataclasses.asdict(self.recipe), indent=1) + "\n")
        if (log := self.folder / _LOG).exists():
            write_text(log, "".join(json.dumps(row) + "\n" for row in _lines(log) if row["step"] <= step))

    def log(self, step: int, samples: int, seconds: float, elapsed: float, scalars: Mapping[str, float]) -> None:
        """One line about step `step`, which took `seconds`."""
        row = {"step": step, "samples": samples, "seconds": round(seconds, 4), "elapsed": round(elapsed, 2)}
        self._append(_LOG, row | {name: round(value, 6) for name, value in scalars.items()})

    def seconds(self, step: int) -> float:
        """Seconds of training up to `step`, as far as they were logged.

        Lines of before `elapsed` was kept count for the steps since the line above them.
        """
        total, last = 0.0, 0
        for row in _lines(self.folder / _LOG):
            if row["step"] <= step:
                total = row.get("elapsed", total + row.get("seconds", 0.0) * (row["step"] - last))
                last = row["step"]
        return total

    def summary(self, step: int, samples: int, seconds: float, **facts: Any) -> dict[str, Any]:
        """What `training.json` says of the weights at `step`.

        Returns:
            `kind`, `step`, `samples` (pictures seen, with repetition), `seconds` of training, the recipe, the history,
            the `facts`, and under `start` the same of the model that the run began with, where that is known.
        """
        found = {
            "kind": self.recipe.kind, "step": step, "samples": samples, "seconds": round(seconds, 1), **facts,
            "recipe": dataclasses.asdict(self.recipe), "history": list(_lines(self.folder / _HISTORY)),
        }  # fmt: skip
        return found | ({"start": self._start} if self._start else {})

    def _append(self, name: str, row: Mapping[str, Any]) -> None:
        path = self.folder / name
        with explained(path), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def name_of(device: torch.device) -> str:
    """What the device calls itself, such as "NVIDIA H200"."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Settings that differ between two recipes, as `{"optim.lr": [before, after]}`; empty for the first one."""
    one, two = (_settings(json.loads(json.dumps(recipe))) for recipe in (before, after))
    names = [*one, *(name for name in two if name not in one)] if before else []
    return {name: [one.get(name), two.get(name)] for name in names if one.get(name) != two.get(name)}


def _settings(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in table.items():
        flat |= _settings(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def read_summary(folder: Path) -> dict[str, Any]:
    """What `training.json` in the folder of a model says; empty where there is none.

    Raises:
        BadInput: it is no file of the folder, cannot be read, or says less than `Record.summary`.
    """
    table = read_table(path, folder) if has(path := folder / SUMMARY) else {}
    before = table.get("start", dict.fromkeys(_SAID, 0))
    if table and not (_says(table, *_SAID) and isinstance(before, dict) and _says(before, "samples", "seconds")):
        raise BadInput(f"{printable(path)} does not say how a model was trained: {_GIVE}.")
    return table


def _says(table: Mapping[str, Any], *names: str) -> bool:
    return all(isinstance(table.get(name), _SAID[name]) for name in names)


def _read(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is no file. Raises BadInput."""
    table = read_json(path, _GIVE) if has(path) else {}
    if not isinstance(table, dict):
        raise BadInput(f"{printable(path)} must hold one JSON object: {_GIVE}.")
    return table


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSONL file that name a step; lines that are no JSON, as a kill leaves them, are left out.

    Raises:
        BadInput: no regular file, or a line of more than `MAX_LINE_BYTES`.
    """
    if not has(path):
        return
    with open_regular(path, _GIVE) as file:
        for line in iter(lambda: file.readline(MAX_LINE_BYTES + 1), b""):
            if len(line) > MAX_LINE_BYTES:
                raise BadInput(f"{printable(path)} has a line of more than {MAX_LINE_BYTES:,} bytes: {_GIVE}.")
            with suppress(BadInput):
                row = parse_json(line.decode(errors="replace"), printable(path), _GIVE)
                if _is_row(row):
                    yield row


def _is_row(value: Any) -> bool:
    """Whether a line names a step, and seconds that are numbers where it has some."""
    seconds = [value.get(name, 0) for name in ("seconds", "elapsed")] if isinstance(value, dict) else []
    return bool(seconds) and type(value.get("step")) is int and all(isinstance(each, int | float) for each in seconds)
