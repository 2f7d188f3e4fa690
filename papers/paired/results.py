"""The results of a benchmark's settings over the same edits, as arrays."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sfumato.bench.pairs import read_corpus, read_list
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
        emoji: which emoji each edit is about, [edits]: edits of variants of one emoji fare alike.
        values: setting -> metric or cost -> a number for each edit, [edits]; NaN where it has no value.
        pictures: setting -> file of each edit, [edits].
        lost: edits that some setting did not finish, and that count for none.
    """

    methods: dict[str, str]
    kinds: list[str]
    items: list[str]
    emoji: list[str]
    values: dict[str, dict[str, Values]]
    pictures: dict[str, list[Path]]
    lost: int

    @classmethod
    def read(cls, folder: Path, emoji: Mapping[str, str]) -> "Results":
        """What `sfumato bench pairs` wrote, and the emoji of every edit. Raises BadInput for nothing to compare."""
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
        kinds, about = [kind_of[item] for item in items], [emoji[item] for item in items]
        return cls(methods, kinds, items, about, values, pictures, len(kind_of) - len(items))

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
        """Mean over the edits of setting - other (paired), and its standard error (clustered by emoji).

        Edits of one emoji are no independent draws: the deviations from the mean are summed within each of the G
        emoji before they are squared, times G / (G - 1). With one edit each it is the usual standard error.
        """
        each = self.values[setting][name] - self.values[other][name]
        known = ~np.isnan(each)
        mean, emoji = float(each[known].mean()), np.array(self.emoji)[known]
        sums = np.array([(each[known] - mean)[emoji == one].sum() for one in np.unique(emoji)])
        clusters = len(sums)
        if clusters < 2:
            return mean, float("nan")
        return mean, float(np.sqrt(clusters / (clusters - 1) * (sums**2).sum()) / known.sum())


def emoji_of(corpus: Path) -> dict[str, str]:
    """The emoji that every edit of the benchmark is about, by the edit's name. Raises BadInput for no corpus."""
    base = {row["file"]: row["base"] for row in read_corpus(corpus)}
    return {pair.name: base[pair.source] for pair in read_list()}


def _array(values: list[float | None]) -> Values:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
