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

from sfumato.api.finish import inside
from sfumato.api.inverted import Inverted
from sfumato.api.model import Model
from sfumato.api.regions import region
from sfumato.api.report import unit
from sfumato.api.result import Result
from sfumato.errors import BadInput
from sfumato.images import MAX_PIXELS, Picture, read_image, to_tensor
from sfumato.methods.params import options_of
from sfumato.methods.registry import get_method
from sfumato.metrics import METRICS, Judge

MOST = 1000
"""Settings in one sweep: more is a slip of the keyboard."""
JUDGED_PIXELS = 2**20
"""Most pixels that are judged at once: networks such as VGG keep maps of many channels at full size."""

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


@dataclass(frozen=True, eq=False)
class _Plan:
    """A sweep, checked; `bounds` is what bounds every edit, `mask` what of that was painted, float [1,h,w]."""

    model: Model
    image: Any
    picture: Picture
    texts: tuple[str, str]
    points: list[Point]
    inverting: Point
    fixed: Point
    bounds: Point
    mask: Tensor | None
    judge: Judge


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
    mask_words: str = "",
    mask_difference: bool = False,
    mask_threshold: float | None = None,
    judge: Judge | None = None,
    max_pixels: int = MAX_PIXELS,
    **fixed: Any,
) -> Iterator[Trial]:
    """Every setting of a grid on one picture; what can be refused is refused before the first evaluation.

    Args:
        model: what edits.
        image: as for `Model.invert`.
        source: what the picture shows.
        target: what it shall show; empty where the method does something without.
        grid: name of a parameter of the method to the values to try.
        method: see `sfumato.methods`.
        seed: of the inversion.
        mask: as for `Inverted.edit`, and so the next three.
        mask_words: words that bound the edit.
        mask_difference: bound the edit by where the two prompts disagree.
        mask_threshold: of the two above.
        judge: measures; by default with the shipped dual encoder, which knows emoji artwork alone.
        max_pixels: as for `Model.invert`.
        fixed: parameters that all settings share.

    Raises:
        BadInput: an unknown parameter, one both in the grid and fixed, a prompt that the judge cannot read, or whatever
            `Model.check_edit` refuses.
    """
    points, picture = grid_points(grid), read_image(image, max_pixels)
    for name in set(grid) & set(fixed):
        raise BadInput(f"{name} is in the grid already: do not fix it too.")
    found = region(mask_words, mask_difference, mask_threshold)
    for point in points:
        model.check_edit(source, target, method=method, size=picture.size, region=found, **{**fixed, **point})
    painted = None if mask is None else torch.from_numpy(inside(mask, picture.size))[None].float()
    texts = (source, target if target.strip() else source)
    judge = judge or Judge.load(device=model.network.device)
    if model.network.takes_text:
        judge.clip.check_texts(texts)
    bounds = {"mask": mask, "mask_words": mask_words, "mask_difference": mask_difference}
    return _trials(
        _Plan(
            model,
            image,
            picture,
            texts,
            points,
            inverting={"method": method, "seed": seed, "max_pixels": max_pixels},
            fixed=fixed,
            bounds=bounds | {"mask_threshold": mask_threshold},
            mask=painted,
            judge=judge,
        )
    )


def _trials(plan: _Plan) -> Iterator[Trial]:
    points, fixed, texts = plan.points, plan.fixed, plan.texts
    edits = options_of(get_method(plan.inverting["method"]).params, "edit")
    judged = texts if plan.model.network.takes_text else None
    for inverting in _groups(range(len(points)), points, lambda name: name not in edits):
        options = _part({**fixed, **points[inverting[0]]}, lambda name: name not in edits)
        inverted = plan.model.invert(plan.image, texts[0], **plan.inverting, **options)
        for together in _groups(inverting, points, lambda name: name != "strength"):
            settings = [_part({**fixed, **points[index]}, edits.__contains__) for index in together]
            result = _edited(inverted, texts[1], settings, plan.bounds)
            scores = measured(plan.judge, plan.picture, result, plan.mask, judged)
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


def _edited(inverted: Inverted, target: str, settings: list[Point], bounds: Point) -> Result:
    """Settings that differ in nothing but their strength, as one batch."""
    options = dict(settings[0])
    if "strength" in options:
        options["strength"] = [each["strength"] for each in settings]
    return inverted.edit(target, **bounds, **options)


def measured(
    judge: Judge, picture: Picture, result: Result, mask: Tensor | None, texts: tuple[str, str] | None
) -> list[dict[str, float]]:
    """Every metric of every picture of a result, at most `JUDGED_PIXELS` at once.

    Args:
        judge: measures.
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
        found = judge(
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
