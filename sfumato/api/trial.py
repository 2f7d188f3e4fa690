"""Trials: edits of one image with different settings, their metrics, and the selection of the best ones."""

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
from sfumato.images import LoadedImage, resized_pixels, to_tensor
from sfumato.metrics import METRICS, Evaluator

JUDGED_PIXELS = 2**20
"""Maximum number of pixels per call of the evaluator, as networks such as VGG store large feature maps."""


@dataclass(frozen=True, eq=False)
class Trial:
    """One setting, its edit and its scores.

    Attributes:
        index: index of the setting in the grid, whose last name varies fastest.
        options: the setting: one value per name of the grid.
        pixels: the edit, uint8 [h,w,3].
        scores: every metric of `sfumato.metrics.Evaluator` by name, NaN if a metric has no value.
        result: result of `Inverted.edit` that contains the edit, with its recipe.
        row: index of the edit in `result`.
    """

    index: int
    options: dict[str, Any]
    pixels: NDArray[np.uint8]
    scores: dict[str, float]
    result: Result
    row: int


def measured(
    evaluator: Evaluator, image: LoadedImage, result: Result, mask: Tensor | None, texts: tuple[str, str] | None
) -> list[dict[str, float]]:
    """Compute all metrics of every image of a result, in batches of at most `JUDGED_PIXELS`.

    Args:
        evaluator: networks that compute the metrics.
        image: the source at the size at which it was edited; the metrics are computed at this size.
        result: edits of the source.
        mask: float [1,h,w] at that size, 1 where the edit applies, or None.
        texts: source prompt, which may be empty, and target prompt; None without a target prompt. Metrics that compare
            with a missing prompt are left out.

    Returns:
        Scores by name of the metric, per image of the result.
    """
    width, height = image.size
    together = max(1, JUDGED_PIXELS // (width * height))
    source = (to_tensor(image) + 1) / 2
    scores = []
    for first in range(0, len(result), together):
        edits = torch.cat([unit(resized_pixels(each, image.size)) for each in result.pixels[first : first + together]])
        rows = len(edits)
        found = evaluator(
            source.expand(rows, -1, -1, -1),
            edits,
            mask=None if mask is None else mask.expand(rows, -1, -1),
            source_texts=None if texts is None or not texts[0].strip() else [texts[0]] * rows,
            target_texts=None if texts is None else [texts[1]] * rows,
        )
        scores += [{name: float(values[row]) for name, values in found.items()} for row in range(rows)]
    return scores


def pareto(scores: Sequence[Mapping[str, float]], metrics: Sequence[str]) -> list[bool]:
    """Return the Pareto front: True for every row that no other row dominates.

    A row dominates another one if it is at least as good in every metric and better in at least one.

    Args:
        scores: metrics by name, per setting; a row with NaN in one of the metrics is never on the front.
        metrics: names in `METRICS`, which defines whether higher or lower values are better.

    Raises:
        BadInput: a metric is unknown or was not measured.
    """
    for name in metrics:
        if name not in METRICS or any(name not in row for row in scores):
            known = ", ".join(scores[0] if scores else METRICS)
            raise BadInput(f"There is no metric {name!r} among the scores; choose from {known}.")
    table = np.array([[METRICS[name].sign * row[name] for name in metrics] for row in scores]).reshape(len(scores), -1)
    beaten = (table[:, None] <= table[None]).all(axis=2) & (table[:, None] < table[None]).any(axis=2)
    return [bool(best) for best in ~beaten.any(axis=1) & ~np.isnan(table).any(axis=1)]


def least_change(trials: Sequence[Trial], wanted: float, *, adherence: str = "clip", change: str = "lpips") -> Trial:
    """Return the trial with the smallest change among those that reach an adherence.

    If no trial reaches it, the one with the highest adherence is returned.

    Args:
        trials: at least one trial.
        wanted: minimum value of the adherence metric.
        adherence: name of a metric for which higher is better.
        change: name of a metric for which lower is better.
    """
    reached = [trial for trial in trials if trial.scores[adherence] >= wanted]
    if reached:
        return min(reached, key=lambda trial: (trial.scores[change], trial.index))
    return max(trials, key=lambda trial: (trial.scores[adherence], -trial.index))
