"""Automatic choice of `skip` and `guidance_scale`: the smallest change that follows the target prompt well enough.

The image is inverted once; `sfumato.api.auto_grid` searches over the settings.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sfumato.api.auto_grid import Grid
from sfumato.api.evaluators import evaluator_of
from sfumato.api.inverted import Inverted
from sfumato.api.result import Result
from sfumato.api.trial import Trial, least_change
from sfumato.errors import BadInput
from sfumato.geometry import counting_passes
from sfumato.images import Picture, to_tensor
from sfumato.metrics import Evaluator


@dataclass(frozen=True, eq=False)
class Choice:
    """The outcome of `choose`.

    Attributes:
        trial: the chosen setting and its edit.
        wanted: the required similarity to the target prompt.
        reached: whether the edit reaches it; if not, `trial` is the setting with the highest similarity.
        tried: number of settings tried, up to the level of the choice.
        table: all of them, in the order of the grid.
        report: cost of the choice, including the metrics: seconds, network_evaluations, and jacobian_passes if there
            are any.
    """

    trial: Trial
    wanted: float
    reached: bool
    tried: int
    table: tuple[Trial, ...]
    report: dict[str, Any]

    @property
    def result(self) -> Result:
        """The chosen edit alone, as `Inverted.edit` returns it; its cost is part of `report`."""
        several, row = self.trial.result, self.trial.row

        def own(values: dict[str, list[Any]], *names: str) -> dict[str, list[Any]]:
            return {name: values[name][row : row + 1] for name in names if name in values}

        parameters, options = several.report["parameters"], self.trial.options
        methods = [part | {name: options[name] for name in part.keys() & options} for part in parameters["methods"]]
        parameters = parameters | own(parameters, "guidance_scale", "prompts")
        report = {name: value for name, value in several.report.items() if name != "jacobian_passes"}
        report |= own(report, "moves") | {
            "parameters": parameters | {"methods": methods},
            "metrics": own(report["metrics"], *report["metrics"]),
            "seconds": 0.0,
            "network_evaluations": {"calls": 0, "samples": 0},
        }
        return Result([several.pixels[row]], [several.sources[row]], [several.recipes[row]], report)


def choose(
    inverted: Inverted,
    target: str,
    *,
    adherence: float | None = None,
    evaluator: Evaluator | None = None,
    callback: Callable[[int, int], None] = lambda done, total: None,
    **options: Any,
) -> Choice:
    """Search for the smallest change that reaches the adherence; see `sfumato.api.auto_grid`.

    Of the settings tried that reach it, the one with the smallest perceptual distance (LPIPS) to the source is chosen.
    If no setting reaches it, the one with the highest adherence is chosen.

    Args:
        inverted: one inverted image.
        target: prompt describing the edited image.
        adherence: required cosine similarity between the edit and the target prompt, between -1 and 1; by default the
            similarity between the source image and its own prompt.
        evaluator: networks that measure the edits; by default those of the model's folder, see `evaluator_of`.
        callback: called with the number of settings tried and the largest number that may be tried.
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
    evaluator = evaluator or evaluator_of(inverted.model)
    texts = inverted.model.plain([source, target])
    evaluator.clip.check_texts(texts)
    grid = Grid.of(inverted, target, evaluator, options, callback)
    began = time.perf_counter()
    with network.counting() as count, counting_passes() as passes:
        wanted = _own(evaluator, picture, texts[0]) if adherence is None else adherence
        tried = grid.search(wanted)
    best = least_change(tried, wanted)
    evaluations = {"calls": count.calls, "samples": count.samples}
    report = {"seconds": round(time.perf_counter() - began, 4), "network_evaluations": evaluations}
    report |= {"jacobian_passes": passes.products} if any(passes.products.values()) else {}
    return Choice(best, wanted, best.scores["clip"] >= wanted, len(tried), tuple(tried), report)


def _own(evaluator: Evaluator, picture: Picture, source: str) -> float:
    """Cosine similarity between the image and its own prompt."""
    pixels = (to_tensor(picture) + 1) / 2
    return float((evaluator.clip.image_features(pixels) * evaluator.clip.text_features([source])).sum())
