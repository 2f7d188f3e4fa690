"""Logs and metadata of a run.

recipe.json     the current recipe
history.jsonl   one line for each time the run was started or resumed: time, device, versions, changed settings
log.jsonl       measurements of single steps; `elapsed` is the training time so far in seconds, over all resumes
training.json   a summary, in the exported folder

These files and their folders are untrusted input (SECURITY.md).
"""

import dataclasses
import json
import logging
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
from sfumato.networks.places import has
from sfumato.networks.tables import read_table
from sfumato.paths import check_inside
from sfumato.regular_files import check_regular, open_regular
from sfumato.text_files import MAX_LINE_BYTES, parse_json, read_json
from sfumato.train.recipe import Recipe

_LOGGER = logging.getLogger(__name__)
SUMMARY = "training.json"
_FILES = _RECIPE, _HISTORY, _LOG = "recipe.json", "history.jsonl", "log.jsonl"
_PACKAGES = ("torch", "diffusers", "transformers", "accelerate")
_ADVICE = "remove it"
#: Required entries of a `training.json` and their types. The summary under `start` requires the first two.
_REQUIRED = {"samples": int, "seconds": int | float, "pictures": int, "device": str}


class Record:
    """Write the logs and metadata of a run. Only the first process calls the methods that write.

    Args:
        folder: folder of the run.
        recipe: its settings.

    Raises:
        BadInput: an existing file, or the `training.json` of the model in `network.start`, is not a regular file inside
            its folder, or cannot be read.
    """

    def __init__(self, folder: Path, recipe: Recipe) -> None:
        self.folder, self.recipe = folder, recipe
        check_inside(folder, *_FILES)
        for path in (folder / name for name in _FILES):
            if has(path):
                check_regular(path, _ADVICE)
        start = recipe.network.get("start")
        self._start = summary_of_start(Path(start), recipe.kind) if start else {}

    def begin(self, step: int, samples: int, device: torch.device, processes: int, images: int) -> None:
        """Record that the run starts or resumes at `step`, and delete log lines of later steps.

        Later steps are in the log if the run was killed after its newest checkpoint. A warning is logged if the number
        of training images differs from that of the previous start.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._warn_of_other_images(images)
        entry = {
            "step": step,
            "samples": samples,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "device": name_of(device),
            "threads": torch.get_num_threads(),
            "processes": processes,
            "images": images,
            "changed": changes(_read(self.folder / _RECIPE), dataclasses.asdict(self.recipe)),
            "versions": {"sfumato": sfumato.__version__} | {name: version(name) for name in _PACKAGES},
        }
        self._append(_HISTORY, entry)
        write_text(self.folder / _RECIPE, json.dumps(dataclasses.asdict(self.recipe), indent=1) + "\n")
        if (log := self.folder / _LOG).exists():
            write_text(log, "".join(json.dumps(row) + "\n" for row in _lines(log) if row["step"] <= step))

    def _warn_of_other_images(self, images: int) -> None:
        *_, last = {}, *_lines(self.folder / _HISTORY)
        before = last.get("images")
        if isinstance(before, int) and before != images:
            _LOGGER.warning(
                "The run continues with %d training images; when it was last started it had %d. Its result differs "
                "from that of a run whose images stay the same.", images, before,
            )  # fmt: skip

    def log(self, step: int, samples: int, seconds: float, elapsed: float, scalars: Mapping[str, float]) -> None:
        """Append a line to `log.jsonl`; see `sfumato.train.loop.StepReport`. Scalars have 6 significant digits."""
        row = {"step": step, "samples": samples, "seconds": round(seconds, 4), "elapsed": round(elapsed, 2)}
        self._append(_LOG, row | {name: float(f"{value:.6g}") for name, value in scalars.items()})

    def seconds(self, step: int) -> float:
        """Training time up to `step` in seconds, from the log.

        Lines of older versions have no `elapsed`; their `seconds` count for all steps since the previous line.
        """
        total, last = 0.0, 0
        for row in _lines(self.folder / _LOG):
            if row["step"] <= step:
                total = row.get("elapsed", total + row.get("seconds", 0.0) * (row["step"] - last))
                last = row["step"]
        return total

    def summary(self, step: int, samples: int, seconds: float, **facts: Any) -> dict[str, Any]:
        """Content of `training.json` for the weights at `step`.

        Args:
            step: number of finished training steps.
            samples: number of training samples so far, with repetition.
            seconds: training time so far.
            facts: further entries.

        Returns:
            `kind`, `step`, `samples`, `seconds`, the `facts`, `recipe`, `history` and, if the model in `network.start`
            has a `training.json`, its content under `start` (see `summary_of_start`).
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
    """Name of a device, such as "NVIDIA H200" or "cpu"."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Settings that differ between two recipes, as `{"optim.lr": [before, after]}`; empty if `before` is empty."""
    one, two = (_settings(json.loads(json.dumps(recipe))) for recipe in (before, after))
    names = [*one, *(name for name in two if name not in one)] if before else []
    return {name: [one.get(name), two.get(name)] for name in names if one.get(name) != two.get(name)}


def _settings(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in table.items():
        flat |= _settings(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def read_summary(folder: Path) -> dict[str, Any]:
    """Read `training.json` in the folder of a model; an empty dict if the file does not exist.

    Raises:
        BadInput: the file is not inside the folder, cannot be read, or lacks entries of `Record.summary`.
    """
    table = read_table(path, folder) if has(path := folder / SUMMARY) else {}
    before = table.get("start", dict.fromkeys(_REQUIRED, 0))
    if table and not (
        _has_entries(table, *_REQUIRED) and isinstance(before, dict) and _has_entries(before, "samples", "seconds")
    ):
        raise BadInput(f"{printable(path)} is not the summary of a training run: {_ADVICE}.")
    return table


def summary_of_start(folder: Path, kind: str) -> dict[str, Any]:
    """Read the summary of the training of the model that a run starts from; an empty dict if there is none.

    Args:
        folder: folder of the model. A part of a pipeline without `training.json`, such as its unet/, has that of the
            pipeline, if it is of the same kind.
        kind: kind of the run.

    Raises:
        BadInput: see `read_summary`.
    """
    if has(folder / SUMMARY) or not has(folder.parent / "model_index.json"):
        return read_summary(folder)
    whole = read_summary(folder.parent)
    return whole if whole.get("kind") == kind else {}


def _has_entries(table: Mapping[str, Any], *names: str) -> bool:
    return all(isinstance(table.get(name), _REQUIRED[name]) for name in names)


def _read(path: Path) -> dict[str, Any]:
    """Read a JSON object; an empty dict if the file does not exist. Raises BadInput."""
    table = read_json(path, _ADVICE) if has(path) else {}
    if not isinstance(table, dict):
        raise BadInput(f"{printable(path)} must contain one JSON object: {_ADVICE}.")
    return table


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSONL file that have a step. Invalid lines, such as an incomplete last one, are skipped.

    Raises:
        BadInput: the path is not a regular file, or a line is longer than `MAX_LINE_BYTES`.
    """
    if not has(path):
        return
    with open_regular(path, _ADVICE) as file:
        for line in iter(lambda: file.readline(MAX_LINE_BYTES + 1), b""):
            if len(line) > MAX_LINE_BYTES:
                raise BadInput(f"{printable(path)} has a line of more than {MAX_LINE_BYTES:,} bytes: {_ADVICE}.")
            with suppress(BadInput):
                row = parse_json(line.decode(errors="replace"), printable(path), _ADVICE)
                if _is_row(row):
                    yield row


def _is_row(value: Any) -> bool:
    """Whether a value is an object with an integer `step`; `seconds` and `elapsed`, if present, must be numbers."""
    seconds = [value.get(name, 0) for name in ("seconds", "elapsed")] if isinstance(value, dict) else []
    return bool(seconds) and type(value.get("step")) is int and all(isinstance(each, int | float) for each in seconds)
