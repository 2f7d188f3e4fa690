"""Settings that were tried on one picture: measured, compared, chosen among."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sfumato.api.report import unit
from sfumato.api.result import Result
from sfumato.errors import BadInput
from sfumato.images import Picture, to_tensor
from sfumato.metrics import METRICS, Evaluator

JUDGED_PIXELS = 2**20
"""Most pixels that are evaluated at once: networks such as VGG keep maps of many channels at full size."""


@dataclass(frozen=True, eq=False)
class Trial:
    """One setting and what came of it.

    Attributes:
        index: its place in the grid; the last name of the grid varies fastest.
        options: the setting, one value for each name of the grid.
        pixels: the edit, uint8 [h,w,3].
        scores: every metric of `sfumato.metrics.Evaluator`, NaN where a metric has no value.
        result: the edit as `Inverted.edit` gave it, with its recipe.
        row: which of the result's pictures it is.
    """

    index: int
    options: dict[str, Any]
    pixels: NDArray[np.uint8]
    scores: dict[str, float]
    result: Result
    row: int


def measured(
    evaluator: Evaluator, picture: Picture, result: Result, mask: Tensor | None, texts: tuple[str, str] | None
) -> list[dict[str, float]]:
    """Every metric of every picture of a result, at most `JUDGED_PIXELS` at once.

    Args:
        evaluator: measures.
        picture: the source.
        result: its edits.
        mask: float [1,h,w], 1 where the picture was to change.
        texts: what it showed and what it was to show; None for a model without text.
    """
    width, height = picture.size
    together = max(1, JUDGED_PIXELS // (width * height))
    source = (to_tensor(picture) + 1) / 2
    scores = []
    for first in range(0, len(result), together):
        edits = torch.cat([unit(pixels) for pixels in result.pixels[first : first + together]])
        rows = len(edits)
        found = evaluator(
            source.expand(rows, -1, -1, -1),
            edits,
            mask=None if mask is None else mask.expand(rows, -1, -1),
            source_texts=None if texts is None else [texts[0]] * rows,
            target_texts=None if texts is None else [texts[1]] * rows,
        )
        scores += [{name: float(values[row]) for name, values in found.items()} for row in range(rows)]
    return scores


def pareto(scores: Sequence[Mapping[str, float]], metrics: Sequence[str]) -> list[bool]:
    """Which of the rows no other row beats: at least as good in every metric and better in one.

    Args:
        scores: one mapping per setting; one with NaN in a metric is not worth having by it.
        metrics: names in `METRICS`, whose direction says what good is.

    Raises:
        BadInput: an unknown metric, or one that was not measured.
    """
    for name in metrics:
        if name not in METRICS or any(name not in row for row in scores):
            known = ", ".join(scores[0] if scores else METRICS)
            raise BadInput(f"There is no metric {name!r} here; choose among {known}.")
    table = np.array([[METRICS[name].sign * row[name] for name in metrics] for row in scores]).reshape(len(scores), -1)
    beaten = (table[:, None] <= table[None]).all(axis=2) & (table[:, None] < table[None]).any(axis=2)
    return [bool(best) for best in ~beaten.any(axis=1) & ~np.isnan(table).any(axis=1)]


def least_change(trials: Sequence[Trial], wanted: float, *, adherence: str = "clip", change: str = "lpips") -> Trial:
    """The trial with the least change among those that reach the wanted adherence; else the one that comes nearest.

    Args:
        trials: at least one.
        wanted: value of the adherence metric that is enough.
        adherence: a metric of which more is better.
        change: a metric of which less is better.
    """
    reached = [trial for trial in trials if trial.scores[adherence] >= wanted]
    if reached:
        return min(reached, key=lambda trial: (trial.scores[change], trial.index))
    return max(trials, key=lambda trial: (trial.scores[adherence], -trial.index))
