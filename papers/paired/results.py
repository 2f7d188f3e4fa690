"""The results of a benchmark's settings over the same edits, as arrays."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sfumato.bench.report import PARQUET
from sfumato.bench.settings import PIPELINES, UNCHANGED
from sfumato.bench.summary import COSTS, IDENTICAL
from sfumato.errors import BadInput
from sfumato.metrics import METRICS

Values: TypeAlias = NDArray[np.float64]

#: Ways to say how well the edit follows the prompt, the first of them the one of the figure; and the error.
ADHERENCES = ("clip_direction", "clip", "clip_nearer")
ADHERENCE, ERROR = ADHERENCES[0], "target_mse"


@dataclass(frozen=True, eq=False)
class Results:
    """All settings over the edits that every one of them finished.

    Attributes:
        methods: method of each setting, by the setting's name, in the order of the file.
        kinds: kind of each edit, [edits].
        items: name of each edit, [edits].
        values: setting -> metric or cost -> a number for each edit, [edits]; NaN where it has no value.
        pictures: setting -> file of each edit, [edits].
        lost: edits that some setting did not finish, and that count for none.
    """

    methods: dict[str, str]
    kinds: list[str]
    items: list[str]
    values: dict[str, dict[str, Values]]
    pictures: dict[str, list[Path]]
    lost: int

    @classmethod
    def read(cls, folder: Path) -> "Results":
        """What `sfumato bench pairs` wrote. Raises BadInput where there is nothing to compare."""
        if not (folder / PARQUET).is_file():
            raise BadInput(f"{folder} has no {PARQUET}: run `sfumato bench pairs --out {folder}` first.")
        rows = pq.read_table(folder / PARQUET).to_pylist()
        found: dict[str, dict[str, dict[str, Any]]] = {}
        for row in rows:
            done = found.setdefault(row["setting"], {})
            if row["error"] is None:
                done[row["item"]] = row
        kind_of = {row["item"]: row["kind"] for row in rows}
        items = [item for item in kind_of if all(item in done for done in found.values())]
        if not items:
            raise BadInput(f"no edit in {folder} was finished by every setting: run the benchmark to its end.")
        names = [*METRICS, *COSTS]
        values = {
            setting: {name: _array([done[item][name] for item in items]) for name in names}
            for setting, done in found.items()
        }
        methods = {row["setting"]: row["method"] for row in rows}
        pictures = {name: [folder / done[item]["picture"] for item in items] for name, done in found.items()}
        return cls(methods, [kind_of[item] for item in items], items, values, pictures, len(kind_of) - len(items))

    @property
    def ours(self) -> list[str]:
        """Settings of this package's methods."""
        return [name for name, method in self.methods.items() if method not in (*PIPELINES, UNCHANGED)]

    @property
    def theirs(self) -> list[str]:
        """Settings of diffusers' pipelines."""
        return [name for name, method in self.methods.items() if method in PIPELINES]

    def mean(self, setting: str, name: str) -> float:
        """Over the edits that have a value; an infinite PSNR counts as `IDENTICAL`."""
        values = np.minimum(self.values[setting][name], IDENTICAL if "psnr" in name else np.inf)
        return float(np.nanmean(values)) if not np.isnan(values).all() else float("nan")

    def difference(self, setting: str, other: str, name: str) -> tuple[float, float]:
        """Mean over the edits of setting - other, and its standard error (paired)."""
        each = self.values[setting][name] - self.values[other][name]
        each = each[~np.isnan(each)]
        return float(each.mean()), float(each.std(ddof=1) / np.sqrt(len(each))) if len(each) > 1 else float("nan")


def _array(values: list[float | None]) -> Values:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
