"""Many edits as few numbers."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sfumato.bench.items import Item
from sfumato.bench.journal import Record
from sfumato.bench.settings import Setting
from sfumato.metrics import Quantity

#: PSNR in dB that stands for infinity, that is, for identical pictures, in a mean.
IDENTICAL = 100.0
ALL = "all"
#: What every edit costs.
COSTS = {
    "seconds": Quantity("seconds", "time of inversion and edit", "lower", "s"),
    "cpu_seconds": Quantity("cpu_seconds", "the same as the processor counts it, over all threads", "lower", "s"),
    "evaluations": Quantity("evaluations", "rows through the network, inversion included", "lower"),
}


@dataclass(frozen=True)
class Line:
    """One setting over some of the edits.

    Attributes:
        setting: which.
        group: a kind of edits, or a split such as "split test", or `ALL`.
        finished: number of its edits that were made.
        failed: number of edits that raised.
        compared: number of edits that the means are over: those that all settings finished.
        means: mean of every metric and cost over those, by name; NaN where none has a value.
    """

    setting: Setting
    group: str
    finished: int
    failed: int
    compared: int
    means: Mapping[str, float]


def summarise(settings: Sequence[Setting], items: Sequence[Item], records: Sequence[Record]) -> list[Line]:
    """For each setting a line over all edits, one for each kind and one for each split, where there are several.

    Means of different settings are over the same edits, so that they can be compared: those of the group that all of
    them finished. A setting that finished none of the group takes nothing from the others.
    """
    groups = {item.name: (ALL, item.kind, f"split {item.split}") for item in items}
    kinds, splits = (list(dict.fromkeys(each[n] for each in groups.values())) for n in (1, 2))
    names = [ALL, *(kinds if len(kinds) > 1 else []), *(splits if len(splits) > 1 else [])]
    of = {name: [record for record in records if name in groups[record["item"]]] for name in names}
    common = {name: _finished_by_all(of[name]) for name in names}
    return [_line(setting, name, of[name], common[name]) for setting in settings for name in names]


def _finished_by_all(records: Sequence[Record]) -> set[str]:
    """The edits that every setting finished that finished any."""
    finished: dict[str, set[str]] = {}
    for record in records:
        if "error" not in record:
            finished.setdefault(record["setting"], set()).add(record["item"])
    return set.intersection(*finished.values()) if finished else set()


def _line(setting: Setting, group: str, records: Sequence[Record], common: set[str]) -> Line:
    own = [record for record in records if record["setting"] == setting.key]
    good = [record for record in own if "error" not in record]
    shared = [numbers(record) for record in good if record["item"] in common]
    names = dict.fromkeys(name for each in shared for name in each)
    means = {name: mean(each.get(name, math.nan) for each in shared) for name in names}
    return Line(setting, group, len(good), len(own) - len(good), len(shared), means)


def numbers(record: Record) -> dict[str, float]:
    """The metrics and costs of a finished edit, those that its record has."""
    known = {**record.get("scores", {}), **{name: record[name] for name in COSTS if name in record}}
    return {name: float(value) for name, value in known.items()}


def mean(values: Iterable[float]) -> float:
    """Over those that are numbers; infinity, the PSNR of identical pictures, counts as IDENTICAL."""
    known = [min(value, IDENTICAL) if value == math.inf else value for value in values if not math.isnan(value)]
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
