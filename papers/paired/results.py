"""The results of a benchmark's settings over the same edits, as arrays."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from papers.sure import Estimate, clustered
from sfumato.bench.items import edit_metrics
from sfumato.bench.pairs import read_corpus, read_list
from sfumato.bench.report import PARQUET
from sfumato.bench.settings import PIPELINES, UNCHANGED
from sfumato.bench.summary import COSTS, IDENTICAL
from sfumato.errors import BadInput

Values: TypeAlias = NDArray[np.float64]

#: Metrics of adherence to the prompt, of which the figure shows the first, and the metric of the error.
ADHERENCES = ("clip_direction", "clip", "clip_nearer")
ADHERENCE, ERROR = ADHERENCES[0], "target_mse"


@dataclass(frozen=True, eq=False)
class Results:
    """The results of all settings over the edits that every setting finished.

    Attributes:
        methods: method of each setting, by the setting's name, in the order of the file.
        kinds: kind of each edit, [edits].
        items: name of each edit, [edits].
        emoji: emoji of each edit, [edits]: results for variants of one emoji are correlated.
        values: setting -> metric or cost -> one value for each edit, [edits]; NaN for edits without a value. An
            infinite PSNR counts as `IDENTICAL`, as in the benchmark's own report.
        image_files: setting -> image file of each edit, [edits].
        lost: number of edits that are excluded because some setting did not finish them.
    """

    methods: dict[str, str]
    kinds: list[str]
    items: list[str]
    emoji: list[str]
    values: dict[str, dict[str, Values]]
    image_files: dict[str, list[Path]]
    lost: int

    @classmethod
    def read(cls, folder: Path, emoji: Mapping[str, str]) -> "Results":
        """Read the results that `sfumato bench pairs` wrote.

        Args:
            folder: the `--out` folder of the benchmark.
            emoji: emoji of each edit, by the name of the edit.

        Raises:
            BadInput: there are no results, or no edit that every setting finished.
        """
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
        names = [*edit_metrics(), *COSTS]
        values = {
            setting: {name: _array(name, [done[item][name] for item in items]) for name in names}
            for setting, done in found.items()
        }
        methods = {row["setting"]: row["method"] for row in rows}
        image_files = {name: [folder / done[item]["image"] for item in items] for name, done in found.items()}
        kinds, about = [kind_of[item] for item in items], [emoji[item] for item in items]
        return cls(methods, kinds, items, about, values, image_files, len(kind_of) - len(items))

    @property
    def ours(self) -> list[str]:
        """Names of the settings of sfumato's methods."""
        return [name for name, method in self.methods.items() if method not in (*PIPELINES, UNCHANGED)]

    @property
    def theirs(self) -> list[str]:
        """Names of the settings of diffusers' pipelines."""
        return [name for name, method in self.methods.items() if method in PIPELINES]

    def mean(self, setting: str, name: str) -> float:
        """Mean of a metric or cost over the edits that have a value."""
        values = self.values[setting][name]
        return float(np.nanmean(values)) if not np.isnan(values).all() else float("nan")

    def difference(self, setting: str, other: str, name: str) -> Estimate:
        """Mean over the edits of setting - other (paired), with its standard error (clustered by emoji).

        Edits of one emoji are not independent, see `papers.sure.clustered`.
        """
        each = self.values[setting][name] - self.values[other][name]
        known = ~np.isnan(each)
        return clustered(each[known].tolist(), np.array(self.emoji)[known].tolist())


def emoji_of(corpus: Path) -> dict[str, str]:
    """The emoji of every edit of the benchmark, by the name of the edit. Raises BadInput if there is no corpus."""
    base = {row["file"]: row["base"] for row in read_corpus(corpus)}
    return {pair.name: base[pair.source] for pair in read_list()}


def _array(name: str, values: list[float | None]) -> Values:
    found = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    return np.minimum(found, IDENTICAL) if "psnr" in name else found
