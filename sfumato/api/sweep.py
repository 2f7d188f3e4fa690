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

import torch
from torch import Tensor

from sfumato.api.finish import inside
from sfumato.api.inverted import Inverted
from sfumato.api.model import Model
from sfumato.api.regions import region
from sfumato.api.result import Result
from sfumato.api.trial import Trial, measured
from sfumato.errors import BadInput
from sfumato.images import MAX_PIXELS, Picture, read_image
from sfumato.methods.params import options_of
from sfumato.methods.registry import get_method
from sfumato.metrics import Judge

MOST = 1000
"""Settings in one sweep: more is a slip of the keyboard."""

Point = dict[str, Any]


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
