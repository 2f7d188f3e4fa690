"""Automatic choice of `skip` and `guidance_scale`: the smallest change that follows the target prompt well enough.

The image is inverted once. The settings of several levels of `skip` go through the network in one batch where the
method allows it (`sfumato.api.joined`): the first two levels alone, then two and then four together, so that an edit
that needs little change is found without trying large ones.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from inspect import signature
from itertools import chain, repeat
from typing import Any

from sfumato.api.edit_plan import EditPlan, plan_edit
from sfumato.api.evaluators import evaluator_of
from sfumato.api.inverted import Inverted
from sfumato.api.joined import edited_together
from sfumato.api.result import Result
from sfumato.api.trial import Trial, least_change, measured
from sfumato.errors import BadInput
from sfumato.images import Picture, to_tensor
from sfumato.methods.params import options_of
from sfumato.metrics import Evaluator

SKIPPED = (0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
"""Values of skip / steps to try, from small changes to large ones."""
GUIDANCE_SCALES = (0.6, 1.0, 1.6)
"""Factors of the method's own guidance scale to try."""
TOGETHER = (1, 1, 2, 4)
"""Numbers of levels that are tried together; the last one repeats."""


@dataclass(frozen=True, eq=False)
class Choice:
    """The outcome of `choose`.

    Attributes:
        trial: the chosen setting and its edit.
        wanted: the required similarity to the target prompt.
        reached: whether the edit reaches it; if not, `trial` is the setting with the highest similarity.
        tried: number of settings up to the level of the choice.
        table: all of them, in the order of the levels.
        report: cost of the choice, including the metrics: seconds, network_evaluations.
    """

    trial: Trial
    wanted: float
    reached: bool
    tried: int
    table: tuple[Trial, ...]
    report: dict[str, Any]


def choose(
    inverted: Inverted,
    target: str,
    *,
    adherence: float | None = None,
    evaluator: Evaluator | None = None,
    callback: Callable[[int, int], None] = lambda done, total: None,
    **options: Any,
) -> Choice:
    """Try settings from small changes to large ones, up to the first level of `skip` that reaches the adherence.

    Of the settings tried that reach it, the one with the smallest perceptual distance (LPIPS) to the source is chosen.
    If no setting reaches it, the one with the highest adherence is chosen.

    Args:
        inverted: one inverted image.
        target: prompt describing the edited image.
        adherence: required cosine similarity between the edit and the target prompt, between -1 and 1; by default the
            similarity between the source image and its own prompt.
        evaluator: networks that measure the edits; by default those of the model's folder, see `evaluator_of`.
        callback: called after every level with the number of settings tried and the number of all settings.
        options: as for `Inverted.edit`; the same for all settings.

    Returns:
        The chosen setting with its edit.

    Raises:
        BadInput: as `Inverted.edit`; more than one image; no target prompt; neither a source prompt nor an
            adherence; no evaluator; a prompt that the evaluator cannot read; a model without text input; `skip` and
            `guidance_scale` both given; an adherence out of range.
    """
    network = inverted.model.network
    if not network.takes_text:
        raise BadInput("Choosing settings by adherence to the prompt needs a model with text input.")
    if not target.strip():
        raise BadInput("Choosing settings by adherence to the prompt needs a target prompt: give one.")
    if len(inverted) != 1:
        raise BadInput(f"Settings are chosen for one image and one seed at a time, not for {len(inverted)}.")
    if adherence is not None and not -1 < adherence < 1:
        raise BadInput(f"adherence must be between -1 and 1, not {adherence}.")
    (picture,), (source,) = inverted.edited_pictures, inverted.prompts
    if adherence is None and not source.strip():
        raise BadInput(
            "Without a source prompt there is no default for adherence: invert with a source prompt, or give adherence."
        )
    levels, guidance_scales = _grid(inverted, options)
    levels = _possible(inverted, target, levels, options)
    evaluator = evaluator or evaluator_of(inverted.model)
    evaluator.clip.check_texts([source, target])
    tried: list[Trial] = []
    began = time.perf_counter()
    with network.counting() as count:
        wanted = _own(evaluator, picture, source) if adherence is None else adherence
        for several in _batches(levels):
            found = _trials(inverted, target, evaluator, several, guidance_scales, options, len(tried))
            for trials in found:
                tried += trials
                callback(len(tried), len(levels) * max(1, len(guidance_scales)))
                if any(trial.scores["clip"] >= wanted for trial in trials):
                    break
            if any(trial.scores["clip"] >= wanted for trial in tried):
                break
    best = least_change(tried, wanted)
    evaluations = {"calls": count.calls, "samples": count.samples}
    report = {"seconds": round(time.perf_counter() - began, 4), "network_evaluations": evaluations}
    return Choice(best, wanted, best.scores["clip"] >= wanted, len(tried), tuple(tried), report)


def _batches(levels: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """The levels in the groups that are tried together."""
    left, sizes = list(levels), chain(TOGETHER, repeat(TOGETHER[-1]))
    while left:
        size = next(sizes)
        yield left[:size]
        left = left[size:]


def _trials(
    inverted: Inverted,
    target: str,
    evaluator: Evaluator,
    levels: list[dict[str, Any]],
    guidance_scales: list[float],
    options: dict[str, Any],
    first: int,
) -> list[list[Trial]]:
    """Edits of every level with every guidance scale, together; `first` is the index of the first trial."""
    chosen: dict[str, Any] = {"guidance_scale": guidance_scales} if guidance_scales else {}
    plans = [_plan(inverted, target, options | level | chosen) for level in levels]
    found = []
    for level, result in zip(levels, edited_together(inverted, plans), strict=True):
        scores = measured(evaluator, inverted.edited_pictures[0], result, None, (inverted.prompts[0], target))
        settings = [level | {"guidance_scale": guidance_scale} for guidance_scale in guidance_scales] or [level]
        found.append([_trial(first + row, settings[row], result, scores[row], row) for row in range(len(scores))])
        first += len(scores)
    return found


def _plan(inverted: Inverted, target: str, options: dict[str, Any]) -> EditPlan:
    """A checked edit; options are those of `Inverted.edit`. Raises BadInput as that does."""
    named = {name: options[name] for name in options if name in signature(plan_edit).parameters}
    return plan_edit(inverted, target, **named, options={name: options[name] for name in options if name not in named})


def _trial(index: int, setting: dict[str, Any], result: Result, scores: dict[str, float], row: int) -> Trial:
    return Trial(index, setting, result.pixels[row], scores, result, row)


def _grid(inverted: Inverted, fixed: dict[str, Any]) -> tuple[list[dict[str, Any]], list[float]]:
    """Levels (values of `skip`) and guidance scales to try; those of one level share a batch."""
    edits, usual = options_of(type(inverted.params), "edit"), inverted.params
    levels: list[dict[str, Any]] = [{}]
    guidance_scales: list[float] = []
    if "skip" in edits and "skip" not in fixed:
        steps = usual.steps  # type: ignore[attr-defined]
        levels = [{"skip": skip} for skip in sorted({min(steps - 1, round(s * steps)) for s in SKIPPED}, reverse=True)]
    if "guidance_scale" in edits and "guidance_scale" not in fixed:
        high = edits["guidance_scale"].metadata["range"].high
        guidance_scales = [min(high, share * usual.guidance_scale) for share in GUIDANCE_SCALES]  # type: ignore[attr-defined]
    if levels == [{}] and not guidance_scales:
        raise BadInput(f"{inverted.method.name} has nothing left to choose: leave skip or guidance_scale out.")
    return levels, guidance_scales


def _possible(
    inverted: Inverted, target: str, levels: list[dict[str, Any]], options: dict[str, Any]
) -> list[dict[str, Any]]:
    """The levels that the method accepts: a large `skip` may leave out every timestep that the method changes.

    Raises:
        BadInput: `Inverted.edit` refuses all levels; the message is that of the first one.
    """
    possible, refusals = [], []
    for level in levels:
        try:
            inverted.edit_steps(target, **options, **level)
            possible.append(level)
        except BadInput as refusal:
            refusals.append(refusal)
    if not possible:
        raise refusals[0]
    return possible


def _own(evaluator: Evaluator, picture: Picture, source: str) -> float:
    """Cosine similarity between the image and its own prompt."""
    pixels = (to_tensor(picture) + 1) / 2
    return float((evaluator.clip.image_features(pixels) * evaluator.clip.text_features([source])).sum())
