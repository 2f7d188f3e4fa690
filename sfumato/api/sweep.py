"""Choosing settings: many settings of a method on one picture, measured, and which of them are worth having.

    from sfumato.api.sweep import sweep

    for trial in sweep(model, "photo.png", "red heart", "blue heart", grid={"skip": [5, 10], "guidance_scale": [3, 6]}):
        print(trial.options, trial.scores["lpips"], trial.scores["clip"])

The picture is inverted once for every setting of the inversion, and edits that differ in `guidance_scale` alone go
through the network together.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from sfumato.api.finish import as_image, inside
from sfumato.api.model import Model
from sfumato.api.plan import Plan
from sfumato.api.regions import region
from sfumato.api.result import Result
from sfumato.api.trial import Trial, measured
from sfumato.errors import BadInput
from sfumato.images import MAX_PIXELS, Picture, read_image
from sfumato.methods.params import options_of
from sfumato.methods.registry import get_method
from sfumato.metrics import Evaluator

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
    evaluator: Evaluator | None = None,
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
        evaluator: measures; by default with the shipped dual encoder, which knows emoji artwork alone.
        max_pixels: as for `Model.invert`.
        fixed: parameters that all settings share.

    Raises:
        BadInput: an unknown parameter, one both in the grid and fixed, a prompt that the evaluator cannot read, or
            whatever
            `Model.plan` refuses.
    """
    points, picture = grid_points(grid), read_image(image, max_pixels)
    for name in set(grid) & set(fixed):
        raise BadInput(f"{name} is in the grid already: do not fix it too.")
    region(mask_words, mask_difference, mask_threshold)
    painted = None if mask is None else inside(mask, picture.size)
    bounds = {"mask": None if painted is None else as_image(painted), "mask_words": mask_words}
    bounds |= {"mask_difference": mask_difference, "mask_threshold": mask_threshold}
    edits = options_of(get_method(method).params, "edit")
    plans = [
        [
            (together, _plan(model, picture, (source, target), [{**fixed, **points[i]} for i in together], about))
            for together in _groups(inverting, points, lambda name: name != "guidance_scale")
        ]
        for about in [{"methods": method, "seed": seed, **bounds}]
        for inverting in _groups(range(len(points)), points, lambda name: name not in edits)
    ]
    texts = (source, target if target.strip() else source)
    evaluator = evaluator or Evaluator.load(device=model.network.device)
    if model.network.takes_text:
        evaluator.clip.check_texts(texts)
    named = texts if model.network.takes_text else None
    inside_of = None if painted is None else torch.from_numpy(painted)[None].float()
    return _trials(plans, points, lambda result: measured(evaluator, picture, result, inside_of, named))


def _plan(model: Model, picture: Picture, texts: tuple[str, str], settings: list[Point], about: Point) -> Plan:
    """Settings that differ in nothing but their guidance scale, as one edit."""
    options = dict(settings[0])
    if "guidance_scale" in options:
        options["guidance_scale"] = [each["guidance_scale"] for each in settings]
    return model.plan(picture, texts[0], texts[1], **about, **options)


def _trials(
    plans: list[list[tuple[list[int], Plan]]],
    points: list[Point],
    measure: Callable[[Result], list[dict[str, float]]],
) -> Iterator[Trial]:
    for of_one_inversion in plans:
        inverted = of_one_inversion[0][1].invert().result
        for together, plan in of_one_inversion:
            result = plan.apply(inverted).result
            for row, (index, scores) in enumerate(zip(together, measure(result), strict=True)):
                yield Trial(index, points[index], result.pixels[row], scores, result, row)


def _groups(indices: Sequence[int], points: list[Point], counts: Callable[[str], bool]) -> list[list[int]]:
    """Indices whose points agree in the names that count, in the order in which they first appear."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for index in indices:
        key = tuple(value for name, value in points[index].items() if counts(name))
        groups.setdefault(key, []).append(index)
    return list(groups.values())
