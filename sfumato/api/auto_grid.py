"""Coarse-to-fine search over values of `skip` (levels) and guidance scales.

First, every second level is tried, from small changes to large ones, with the smallest and the largest guidance scale,
until one level reaches the required adherence. Then the previous level and the other guidance scales are tried. The
first level found is that of an exhaustive search if the adherence increases with the level and is largest at the
smallest or the largest guidance scale. If the method supports it, the settings of several levels are evaluated in one
batch (`sfumato.api.joined`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import signature
from itertools import chain, repeat
from typing import Any

from sfumato.api.composing import compose
from sfumato.api.composition import Composition
from sfumato.api.edit_plan import EditPlan, plan_edit
from sfumato.api.inverted import Inverted
from sfumato.api.joined import edited_together
from sfumato.api.trial import Trial, measured
from sfumato.errors import BadInput
from sfumato.metrics import Evaluator
from sfumato.options.params import options_of

SKIPPED = (0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2)
"""Values of skip / steps to try, from small changes to large ones. In eight edits of emoji, 0.1 increased the adherence
by at most 0.002."""
GUIDANCE_SCALES = (0.6, 1.0, 1.6)
"""Factors of the method's default guidance scale to try."""
TOGETHER = (1, 1, 2)
"""Numbers of levels that are tried together in successive rounds; the last one is used for all further rounds."""


@dataclass(eq=False)
class Grid:
    """The settings of a search: levels of `skip`, from small changes to large ones, times guidance scales.

    Attributes:
        inverted: one inverted image.
        target: target prompt.
        evaluator: networks that measure the edits.
        levels: the option `skip` of every level; a single empty mapping if the caller gives `skip`.
        guidance_scales: guidance scales to try; [] if the caller gives `guidance_scale`.
        options: options of `Inverted.edit` that are the same for all settings.
        callback: as in `choose`.
        trials: the trials of every level so far, by the index of the guidance scale.
    """

    inverted: Inverted
    target: str
    evaluator: Evaluator
    levels: list[dict[str, Any]]
    guidance_scales: list[float]
    options: dict[str, Any]
    callback: Callable[[int, int], None]
    trials: dict[int, dict[int, Trial]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        inverted: Inverted,
        target: str,
        evaluator: Evaluator,
        options: dict[str, Any],
        callback: Callable[[int, int], None],
    ) -> "Grid":
        """Create the grid of the settings that the options do not determine and that the method accepts.

        Raises:
            BadInput: as `Inverted.edit`; or `skip` and `guidance_scale` are both given.
        """
        levels, guidance_scales = _levels_and_scales(inverted, options)
        levels = _possible(inverted, target, levels, options)
        return cls(inverted, target, evaluator, levels, guidance_scales, options, callback)

    def search(self, wanted: float) -> list[Trial]:
        """Search the grid and return the trials up to the first level that reaches the adherence `wanted`."""
        every, count = range(max(1, len(self.guidance_scales))), len(self.levels)
        ends = sorted({every[0], every[-1]}) if count > 1 else every
        for several in _batches(range((count - 1) % 2, count, 2)):  # the last level is one of them
            self._try(dict.fromkeys(several, ends))
            if reached := [level for level in several if self._reaches(level, wanted)]:
                last = reached[0]
                fine = {last - 1: every} if last else {}
                self._try(fine | {last: [scale for scale in every if scale not in ends]})
                break
        else:
            last = count - 1
        return [trial for level in range(last + 1) for _, trial in sorted(self.trials.get(level, {}).items())]

    def _reaches(self, level: int, wanted: float) -> bool:
        return any(trial.scores["clip"] >= wanted for trial in self.trials[level].values())

    def _try(self, settings: Mapping[int, Sequence[int]]) -> None:
        """Run the edits of these levels with these guidance scales (indices), together."""
        settings = {level: scales for level, scales in settings.items() if scales}
        plans = [self._plan(level, scales) for level, scales in settings.items()]
        source, target = self.inverted.model.plain([self.inverted.prompts[0], self.target])
        for (level, scales), result in zip(settings.items(), edited_together(self.inverted, plans), strict=True):
            scores = measured(self.evaluator, self.inverted.edited_images[0], result, None, (source, target))
            own = self.trials.setdefault(level, {})
            for row, scale in enumerate(scales):
                index = level * max(1, len(self.guidance_scales)) + scale
                own[scale] = Trial(index, self._setting(level, scale), result.pixels[row], scores[row], result, row)
            self.callback(sum(map(len, self.trials.values())), self._most())

    def _plan(self, level: int, scales: Sequence[int]) -> EditPlan:
        scaled = {"guidance_scale": [self.guidance_scales[scale] for scale in scales]} if self.guidance_scales else {}
        return _plan(self.inverted, self.target, self.options | self.levels[level] | scaled)

    def _setting(self, level: int, scale: int) -> dict[str, Any]:
        scaled = {"guidance_scale": self.guidance_scales[scale]} if self.guidance_scales else {}
        return self.levels[level] | scaled

    def _most(self) -> int:
        """The largest number of settings that a search may try."""
        levels, scales = len(self.levels), max(1, len(self.guidance_scales))
        return scales if levels == 1 else (levels + 1) // 2 * min(2, scales) + scales + max(0, scales - 2)


def _batches(levels: Sequence[int]) -> Iterator[Sequence[int]]:
    """The levels in the groups that are tried together."""
    left, sizes = levels, chain(TOGETHER, repeat(TOGETHER[-1]))
    while left:
        size = next(sizes)
        yield left[:size]
        left = left[size:]


def _plan(inverted: Inverted, target: str, options: dict[str, Any]) -> EditPlan:
    """Plan an edit with options of `Inverted.edit`. Raises BadInput as `Inverted.edit`."""
    named, own = _parted(options)
    return plan_edit(inverted, target, **named, options=own)


def _parted(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split options into named arguments of `plan_edit` and options of the methods."""
    names = signature(plan_edit).parameters
    named = {name: value for name, value in options.items() if name in names}
    return named, {name: value for name, value in options.items() if name not in names}


def _levels_and_scales(inverted: Inverted, fixed: dict[str, Any]) -> tuple[list[dict[str, Any]], list[float]]:
    """Levels (values of `skip`) and guidance scales to try; all guidance scales of a level are run in one batch.

    The available options and their defaults are those of the first method of the edit, which can differ from the method
    that the image was inverted for.
    """
    composition = _composed(inverted, fixed)
    usual = composition.params
    edits = options_of(type(usual), "edit")
    levels: list[dict[str, Any]] = [{}]
    guidance_scales: list[float] = []
    if "skip" in edits and "skip" not in fixed:
        steps = inverted.groups[0].inversion.steps
        levels = [{"skip": skip} for skip in sorted({min(steps - 1, round(s * steps)) for s in SKIPPED}, reverse=True)]
    if "guidance_scale" in edits and "guidance_scale" not in fixed:
        high = edits["guidance_scale"].metadata["range"].high
        guidance_scales = [min(high, share * usual.guidance_scale) for share in GUIDANCE_SCALES]  # type: ignore[attr-defined]
    if levels == [{}] and not guidance_scales:
        name = composition.methods[0][0].name if composition.methods else inverted.method.name
        raise BadInput(f"{name} has no setting to choose: leave skip or guidance_scale out.")
    return levels, guidance_scales


def _composed(inverted: Inverted, options: Mapping[str, Any]) -> Composition:
    """The methods of an edit with these options of `Inverted.edit`. Raises BadInput as `Inverted.edit`."""
    (named, own), network = _parted(options), inverted.model.network
    methods, shifts = named.get("methods"), named.get("shifts", ())
    return compose(network, inverted.kind, inverted.method, inverted.params, methods, shifts, own)


def _possible(
    inverted: Inverted, target: str, levels: list[dict[str, Any]], options: dict[str, Any]
) -> list[dict[str, Any]]:
    """The levels that the method accepts: with a large `skip`, the method may have no timestep left to change.

    Raises:
        BadInput: `Inverted.edit` accepts none of the levels; the message is that of the first one.
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
