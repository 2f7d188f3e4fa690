"""Choosing strengths: many settings of a method on one picture, measured, and which of them are worth having.

    from sfumato.api.sweep import sweep

    for trial in sweep(model, "photo.png", "red heart", "blue heart", grid={"skip": [5, 10], "strength": [3, 6, 9]}):
        print(trial.options, trial.scores["lpips"], trial.scores["clip"])

The picture is inverted once for every setting of the inversion, and edits that differ in `strength` alone go through
the network together.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sfumato.api.inverted import Inverted
from sfumato.api.model import Model
from sfumato.api.result import Result
from sfumato.errors import BadInput
from sfumato.images import Picture, read_image, read_mask, to_tensor
from sfumato.methods.params import options_of
from sfumato.methods.registry import get_method
from sfumato.metrics import METRICS, Judge

MOST = 1000
"""Settings in one sweep: more is a slip of the keyboard."""

Point = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Trial:
    """One setting and what came of it.

    Attributes:
        index: its place in the grid; the last name of the grid varies fastest.
        options: the setting, one value for each name of the grid.
        pixels: the edit, uint8 [h,w,3].
        scores: every metric of `sfumato.metrics.Judge`, NaN where a metric has no value.
        result: the edit as `Inverted.edit` gave it, with its recipe.
        row: which of the result's pictures it is.
    """

    index: int
    options: Point
    pixels: NDArray[np.uint8]
    scores: dict[str, float]
    result: Result
    row: int


def grid_points(grid: Mapping[str, Sequence[Any]]) -> list[Point]:
    """Every combination of the values, the last name fastest.

    Raises:
        BadInput: a name without values or with one twice, or more than `MOST` combinations.
    """
    for name, values in grid.items():
        if not values:
            raise BadInput(f"Give at least one value for {name}.")
        for value in values:
            if list(values).count(value) > 1:
                raise BadInput(f"The grid has {name} = {value} more than once: give each value once.")
    points = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    if len(points) > MOST:
        raise BadInput(f"The grid has {len(points)} settings: take fewer values, {MOST} at most.")
    return points


def sweep(
    model: Model,
    image: Any,
    source: str,
    target: str,
    *,
    grid: Mapping[str, Sequence[Any]],
    method: str = "edit-friendly",
    seed: int = 0,
    mask: Any = None,
    judge: Judge | None = None,
    **fixed: Any,
) -> Iterator[Trial]:
    """Every setting of a grid on one picture; everything is checked before the first evaluation.

    Args:
        model: what edits.
        image: as for `Model.invert`.
        source: what the picture shows.
        target: what it shall show; empty where the method does something without.
        grid: name of a parameter of the method to the values to try.
        method: see `sfumato.methods`.
        seed: of the inversion.
        mask: as for `Inverted.edit`.
        judge: measures; by default with the model's own dual encoder, or the shipped one.
        fixed: parameters that all settings share.

    Raises:
        BadInput: an unknown parameter, one both in the grid and fixed, or whatever `Model.check_edit` refuses.
    """
    points, picture = grid_points(grid), read_image(image)
    for name in set(grid) & set(fixed):
        raise BadInput(f"{name} is in the grid already: do not fix it too.")
    for point in points:
        model.check_edit(source, target, method=method, size=picture.size, **{**fixed, **point})
    region = None if mask is None else torch.from_numpy(read_mask(mask, picture.size))[None]
    return _trials(model, image, picture, (source, target or source), points, method, seed, mask, region, judge, fixed)


def _trials(
    model: Model,
    image: Any,
    picture: Picture,
    texts: tuple[str, str],
    points: list[Point],
    method: str,
    seed: int,
    mask: Any,
    region: Tensor | None,
    judge: Judge | None,
    fixed: Point,
) -> Iterator[Trial]:
    edits = options_of(get_method(method).params, "edit")
    judge = judge or Judge.load(device=model.network.device)
    for inverting in _groups(range(len(points)), points, lambda name: name not in edits):
        options = _part({**fixed, **points[inverting[0]]}, lambda name: name not in edits)
        inverted = model.invert(image, texts[0], method=method, seed=seed, **options)
        for together in _groups(inverting, points, lambda name: name != "strength"):
            settings = [_part({**fixed, **points[index]}, edits.__contains__) for index in together]
            result = _edited(inverted, texts[1], settings, mask)
            scores = measured(judge, picture, result, region, texts, model.network.takes_text)
            for row, index in enumerate(together):
                yield Trial(index, points[index], result.pixels[row], scores[row], result, row)


def _groups(indices: Sequence[int], points: list[Point], counts: Any) -> list[list[int]]:
    """Indices whose points agree in the names that count, in the order in which they first appear."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for index in indices:
        key = tuple(value for name, value in points[index].items() if counts(name))
        groups.setdefault(key, []).append(index)
    return list(groups.values())


def _part(point: Point, chosen: Any) -> Point:
    return {name: value for name, value in point.items() if chosen(name)}


def _edited(inverted: Inverted, target: str, settings: list[Point], mask: Any) -> Result:
    """Settings that differ in nothing but their strength, as one batch."""
    options = dict(settings[0])
    if "strength" in options:
        options["strength"] = [each["strength"] for each in settings]
    return inverted.edit(target, mask=mask, **options)


def measured(
    judge: Judge, picture: Picture, result: Result, region: Tensor | None, texts: tuple[str, str], takes_text: bool
) -> list[dict[str, float]]:
    """Every metric of every picture of a result; `region` is the mask, float [1,h,w], or None."""
    rows = len(result)
    source = (to_tensor(picture) + 1) / 2
    edits = torch.stack([torch.from_numpy(pixels.copy()) for pixels in result.pixels]).permute(0, 3, 1, 2).float() / 255
    found = judge(
        source.expand(rows, -1, -1, -1),
        edits,
        mask=None if region is None else region.expand(rows, -1, -1),
        source_texts=[texts[0]] * rows if takes_text else None,
        target_texts=[texts[1]] * rows if takes_text else None,
    )
    return [{name: float(values[row]) for name, values in found.items()} for row in range(rows)]


def pareto(scores: Sequence[Mapping[str, float]], metrics: Sequence[str]) -> list[bool]:
    """Which of the rows no other row beats: at least as good in every metric and better in one.

    Args:
        scores: one mapping per setting; a NaN is never good.
        metrics: names in `METRICS`, whose direction says what good is.

    Raises:
        BadInput: an unknown metric, or one that was not measured.
    """
    for name in metrics:
        if name not in METRICS or any(name not in row for row in scores):
            known = ", ".join(scores[0] if scores else METRICS)
            raise BadInput(f"There is no metric {name!r} here; choose among {known}.")
    table = np.array([[METRICS[name].sign * row[name] for name in metrics] for row in scores]).reshape(len(scores), -1)
    table = np.where(np.isnan(table), -np.inf, table)
    beaten = (table[:, None] <= table[None]).all(axis=2) & (table[:, None] < table[None]).any(axis=2)
    return [not bool(row.any()) for row in beaten]


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
