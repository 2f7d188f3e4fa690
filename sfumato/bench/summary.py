"""Many edits as few numbers."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sfumato.bench.items import Item
from sfumato.bench.journal import Record
from sfumato.bench.settings import Setting
from sfumato.metrics import Metric

#: PSNR in dB that stands for infinity, that is, for identical pictures, in a mean.
IDENTICAL = 100.0
ALL = "all"
#: What every edit costs.
COSTS = {
    "seconds": Metric("seconds", "time of inversion and edit", "lower", "s"),
    "cpu_seconds": Metric("cpu_seconds", "the same as the processor counts it, over all threads", "lower", "s"),
    "evaluations": Metric("evaluations", "rows through the network, inversion included", "lower"),
}


@dataclass(frozen=True)
class Line:
    """One setting over the edits of one kind.

    Attributes:
        setting: which.
        kind: of the edits, or `ALL`.
        finished: number of edits that the means are over.
        failed: number of edits that raised.
        means: mean of every metric and cost, by name; NaN where no edit has a value.
    """

    setting: Setting
    kind: str
    finished: int
    failed: int
    means: Mapping[str, float]


def summarise(settings: Sequence[Setting], items: Sequence[Item], records: Sequence[Record]) -> list[Line]:
    """For each setting a line over all edits, and one for each kind."""
    kind_of = {item.name: item.kind for item in items}
    kinds = list(dict.fromkeys(kind_of.values()))
    lines = []
    for setting in settings:
        own = [record for record in records if record["setting"] == setting.key]
        for kind in [ALL, *(kinds if len(kinds) > 1 else [])]:
            some = [record for record in own if kind in (ALL, kind_of[record["item"]])]
            good = [numbers(record) for record in some if "error" not in record]
            names = dict.fromkeys(name for each in good for name in each)
            means = {name: mean(each.get(name, math.nan) for each in good) for name in names}
            lines.append(Line(setting, kind, len(good), len(some) - len(good), means))
    return lines


def numbers(record: Record) -> dict[str, float]:
    """The metrics and costs of a finished edit."""
    return {**record["scores"], **{name: record[name] for name in COSTS}}


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
            "kind": line.kind,
            "finished": line.finished,
            "failed": line.failed,
            "means": dict(line.means),
        }
        for line in lines
    ]
