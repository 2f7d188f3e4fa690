"""What a run says of itself beside its checkpoints.

recipe.json     the recipe as it stands
history.jsonl   one line for each time that training began or went on: where, when, and what had changed
log.jsonl       what single steps measured; `elapsed` counts the seconds of training up to there, all lives together
training.json   all of it in short, in the folder that the run exports
"""

import dataclasses
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import sfumato
from sfumato.files import explained, write_text
from sfumato.train.recipe import Recipe

SUMMARY = "training.json"
_PACKAGES = ("torch", "diffusers", "transformers", "accelerate")


class Record:
    """The files of the run in `folder`; only the first process writes them."""

    def __init__(self, folder: Path, recipe: Recipe) -> None:
        self.folder, self.recipe = folder, recipe

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
            "changed": changes(_read(self.folder / "recipe.json"), dataclasses.asdict(self.recipe)),
            "versions": {"sfumato": sfumato.__version__} | {name: version(name) for name in _PACKAGES},
        }
        self._append("history.jsonl", entry)
        write_text(self.folder / "recipe.json", json.dumps(dataclasses.asdict(self.recipe), indent=1) + "\n")
        if (log := self.folder / "log.jsonl").exists():
            write_text(log, "".join(json.dumps(row) + "\n" for row in _lines(log) if row["step"] <= step))

    def log(self, step: int, samples: int, seconds: float, elapsed: float, scalars: Mapping[str, float]) -> None:
        """One line about step `step`, which took `seconds`."""
        row = {"step": step, "samples": samples, "seconds": round(seconds, 4), "elapsed": round(elapsed, 2)}
        self._append("log.jsonl", row | {name: round(value, 6) for name, value in scalars.items()})

    def seconds(self, step: int) -> float:
        """Seconds of training up to `step`, as far as they were logged.

        Lines of before `elapsed` was kept count for the steps since the line above them.
        """
        total, last = 0.0, 0
        for row in _lines(self.folder / "log.jsonl"):
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
            "recipe": dataclasses.asdict(self.recipe), "history": list(_lines(self.folder / "history.jsonl")),
        }  # fmt: skip
        start = self.recipe.network.get("start")
        before = _read(Path(start, SUMMARY)) if start else {}
        return found | ({"start": before} if before else {})

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


def _read(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is none."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return table if isinstance(table, dict) else {}


def _lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSONL file that name a step; a line that a kill has cut off is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            rows.append(row)
    return rows
