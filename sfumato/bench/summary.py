"""Means of metrics and costs over edits, for each setting and group of edits."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sfumato.bench.items import Item
from sfumato.bench.journal import Record
from sfumato.bench.settings import Setting
from sfumato.metrics import Quantity

#: Limit in dB for PSNR values in means, because the PSNR of identical images is infinite.
IDENTICAL = 100.0
ALL = "all"
#: The costs of an edit.
COSTS = {
    "seconds": Quantity("seconds", "wall time of inversion and edit", "lower", "s"),
    "cpu_seconds": Quantity("cpu_seconds", "CPU time of inversion and edit, over all threads", "lower", "s"),
    "evaluations": Quantity("evaluations", "rows that the network evaluates, inversion included", "lower"),
}


@dataclass(frozen=True)
class Line:
    """Results of one setting over a group of edits.

    Attributes:
        setting: the setting.
        group: a kind of edits, or a split such as "split test", or `ALL`.
        finished: number of edits that finished.
        failed: number of edits that failed.
        compared: number of edits that the means are over: those that all settings finished.
        means: name -> mean of the metric or cost over the compared edits; NaN if it is undefined for all of them.
    """

    setting: Setting
    group: str
    finished: int
    failed: int
    compared: int
    means: Mapping[str, float]


def summarise(
    settings: Sequence[Setting], items: Sequence[Item], records: Sequence[Record], metrics: Mapping[str, Quantity]
) -> list[Line]:
    """Summarise each setting over all edits, over each kind and over each split, if there are several.

    For comparability, the means of all settings are over the same edits: those of the group that all settings finished,
    except settings that finished no edit of the group. A metric that is missing for some of these edits has no mean.

    Args:
        settings: the settings that were compared.
        items: the edits.
        records: the journal's records of all settings and edits.
        metrics: the metrics, by name.
    """
    groups = {item.name: (ALL, item.kind, f"split {item.split}") for item in items}
    kinds, splits = (list(dict.fromkeys(each[n] for each in groups.values())) for n in (1, 2))
    names = [ALL, *(kinds if len(kinds) > 1 else []), *(splits if len(splits) > 1 else [])]
    of = {name: [record for record in records if name in groups[record["item"]]] for name in names}
    common = {name: _finished_by_all(of[name]) for name in names}
    known = {**metrics, **COSTS}
    return [_line(setting, name, of[name], common[name], known) for setting in settings for name in names]


def _finished_by_all(records: Sequence[Record]) -> set[str]:
    """The edits that are finished by every setting with at least one finished edit."""
    finished: dict[str, set[str]] = {}
    for record in records:
        if "error" not in record:
            finished.setdefault(record["setting"], set()).add(record["item"])
    return set.intersection(*finished.values()) if finished else set()


def _line(
    setting: Setting, group: str, records: Sequence[Record], common: set[str], known: Mapping[str, Quantity]
) -> Line:
    own = [record for record in records if record["setting"] == setting.key]
    good = [record for record in own if "error" not in record]
    shared = [numbers(record) for record in good if record["item"] in common]
    names = [name for name in known if shared and all(name in each for each in shared)]
    means = {name: mean((each[name] for each in shared), known[name].unit) for name in names}
    return Line(setting, group, len(good), len(own) - len(good), len(shared), means)


def numbers(record: Record) -> dict[str, float]:
    """The metrics and costs in the record of a finished edit, by name."""
    known = {**record.get("scores", {}), **{name: record[name] for name in COSTS if name in record}}
    return {name: float(value) for name, value in known.items()}


def mean(values: Iterable[float], unit: str = "") -> float:
    """Mean without NaN; NaN if no value is left.

    Args:
        values: the values.
        unit: their unit; values in dB count as at most `IDENTICAL`, so that an unchanged image, whose PSNR is infinite,
            is never below an almost unchanged one.
    """
    known = [min(value, IDENTICAL) if unit == "dB" else value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def as_json(lines: Iterable[Line]) -> list[dict[str, Any]]:
    """The lines as JSON values."""
    return [
        {
            "setting": line.setting.name,
            "method": line.setting.method,
            "params": dict(line.setting.params),
            "group": line.group,
            "finished": line.finished,
            "failed": line.failed,
            "compared": line.compared,
            "means": dict(line.means),
        }
        for line in lines
    ]
