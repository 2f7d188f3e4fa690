"""Parameter sweeps: edits of one image with every setting of a grid, and their metrics.

    from sfumato.api.sweep import sweep

    for trial in sweep(model, "photo.png", "red heart", "blue heart", grid={"skip": [5, 10], "guidance_scale": [3, 6]}):
        print(trial.options, trial.scores["lpips"], trial.scores["clip"])

The grid can contain parameters of the method, and seed, resolution, tiles, mask_words, mask_difference and
mask_threshold. The image is inverted once for every setting of the inversion, and edits that differ only in
`guidance_scale` are computed in one batch. `sfumato.api.trial.pareto` selects the Pareto-optimal trials.
"""

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from inspect import signature
from typing import Any, TypeVar

import torch

from sfumato.api.arguments import check_seeds
from sfumato.api.automatic_masks import at_size
from sfumato.api.evaluators import evaluator_of
from sfumato.api.grid import Point, grid_points
from sfumato.api.model import Model
from sfumato.api.plan import Plan
from sfumato.api.resolution import Resolution
from sfumato.api.result import Result
from sfumato.api.trial import Trial, measured
from sfumato.editing.registry import METHODS
from sfumato.errors import BadInput
from sfumato.images import MAX_PIXELS, LoadedImage, read_image
from sfumato.images.mask import painted_mask
from sfumato.metrics import Evaluator
from sfumato.options.params import options_of

Item = TypeVar("Item")
OF_INVERSION: Point = {"seed": 0, "resolution": None, "tiles": False}
OF_EDIT: Point = {"mask_words": "", "mask_difference": False, "mask_threshold": None}
"""Arguments of the inversion and of the edit that the grid may contain in addition to parameters, with defaults."""
OF_METHODS = ("steps", "eta", "source_guidance_scale", "exact", "skip", "guidance_scale")
"""Arguments of `Model.plan` that are parameters of methods."""


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
    resolution: Resolution = None,
    tiles: bool = False,
    **fixed: Any,
) -> Iterator[Trial]:
    """Edit one image with every setting of a grid. All settings are checked before the network is evaluated.

    Args:
        model: the model.
        image: as for `Model.invert`.
        source: source prompt.
        target: target prompt; may be empty for methods that edit without a target prompt. Metrics that compare edits
            with it, such as clip, are then left out.
        grid: values to try, by name of a parameter of the method, or seed, resolution, tiles, mask_words,
            mask_difference or mask_threshold.
        method: name of the method, see `sfumato.methods`.
        seed: seed of the inversion.
        mask: as for `Inverted.edit_steps`.
        mask_words: as for `Inverted.edit_steps`.
        mask_difference: as for `Inverted.edit_steps`.
        mask_threshold: as for `Inverted.edit_steps`.
        evaluator: networks that compute the metrics; by default those of the model's folder, see `evaluator_of`.
        max_pixels: as for `Model.invert`.
        resolution: as for `Model.invert`. Metrics are computed at the size at which the image is edited, so that scores
            for different resolutions refer to images of different sizes.
        tiles: as for `Model.invert`.
        fixed: parameters with the same value in all settings.

    Returns:
        An iterator over the trials, in the order in which they are computed; `Trial.index` is the position in the grid.

    Raises:
        BadInput: as `Model.plan`; or a parameter is unknown, not allowed in the grid, or both in the grid and fixed;
            there is no evaluator; or the evaluator cannot encode a prompt.
    """
    points, loaded = grid_points(grid), read_image(image, max_pixels)
    for name, text in (("source", source), ("target", target)):
        if not isinstance(text, str):
            raise BadInput(f"The {name} prompt of a sweep must be text, not {text!r}.")
    about: Point = {"seed": seed, "resolution": resolution, "tiles": tiles, "mask_words": mask_words}
    about |= {"mask_difference": mask_difference, "mask_threshold": mask_threshold}
    usual = OF_INVERSION | OF_EDIT
    _check_names(grid, fixed, {name for name, value in about.items() if value != usual[name]})
    check_seeds([seed, *grid.get("seed", ())])
    painted = None if mask is None else painted_mask(mask, loaded.size)
    about |= {"methods": method, "mask": painted} | fixed
    edits = {*options_of(METHODS.find(method).params, "edit"), *OF_EDIT}

    def differing(index: int, same: Collection[str]) -> tuple[str, ...]:
        """The values of a point, as text, without the options that are named in `same`."""
        return tuple(repr(value) for name, value in points[index].items() if name not in same)

    planned = [
        (together, _plan(model, loaded, (source, target), [about | points[i] for i in together]))
        for together in _groups(range(len(points)), lambda index: differing(index, ["guidance_scale"]))
    ]
    plans = _groups(planned, lambda each: differing(each[0][0], edits.difference(each[1].sources.params.inverts_with)))
    source, target = model.plain([source, target])
    evaluator, texts = evaluator or evaluator_of(model), (source, target) if target.strip() else None
    if texts:
        evaluator.clip.check_texts([text for text in texts if text.strip()])

    def measure(result: Result, edited: LoadedImage) -> list[dict[str, float]]:
        sized = None if painted is None else torch.from_numpy(at_size(painted.weights, edited.size))[None]
        return measured(evaluator, edited, result, sized, texts)

    return _trials(plans, points, measure)


def _check_names(grid: Mapping[str, Any], fixed: Mapping[str, Any], named: set[str]) -> None:
    """Raise BadInput for names that a grid cannot contain or that are given twice; `named` are the given arguments."""
    for name in {**grid, **fixed}:
        if name in ("images", "methods"):
            raise BadInput(f"{name} is no option of a sweep, which has one image and one method: leave it out.")
    for name in grid:
        if name in fixed or name in named:
            raise BadInput(f"{name} is in the grid and fixed at the same time: give it once.")
        if name in signature(Model.plan).parameters and name not in (*OF_INVERSION, *OF_EDIT, *OF_METHODS):
            raise BadInput(f"{name} is the same for all settings of a sweep: take it out of the grid.")


def _plan(model: Model, image: LoadedImage, texts: tuple[str, str], settings: list[Point]) -> Plan:
    """Plan one edit with several guidance scales for settings that differ only in these."""
    options = dict(settings[0])
    if "guidance_scale" in options:
        options["guidance_scale"] = [each["guidance_scale"] for each in settings]
    return model.plan(image, texts[0], texts[1], **options)


def _trials(
    plans: list[list[tuple[list[int], Plan]]],
    points: list[Point],
    measure: Callable[[Result, LoadedImage], list[dict[str, float]]],
) -> Iterator[Trial]:
    for of_one_inversion in plans:
        inverted = of_one_inversion[0][1].invert().result
        for together, plan in of_one_inversion:
            result = plan.apply(inverted).result
            scored = measure(result, inverted.edited_images[0])
            for row, (index, scores) in enumerate(zip(together, scored, strict=True)):
                yield Trial(index, points[index], result.pixels[row], scores, result, row)


def _groups(items: Iterable[Item], key: Callable[[Item], Hashable]) -> list[list[Item]]:
    """Group items with equal keys, in order of first occurrence."""
    groups: dict[Hashable, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.values())
