"""Automatic choice of `skip` and `guidance_scale`: the smallest change with a sufficient similarity to the prompt.

The image is inverted once; `sfumato.api.auto_grid` searches over the settings of the edit.
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
from sfumato.images import LoadedImage, to_tensor
from sfumato.metrics import Evaluator


@dataclass(frozen=True, eq=False)
class Choice:
    """The outcome of `choose`.

    Attributes:
        trial: the chosen setting and its edit.
        wanted: the required CLIP similarity to the target prompt.
        reached: whether the edit reaches it; if not, `trial` is the setting with the highest similarity.
        tried: number of settings in `table`.
        table: the trials up to the first level that reaches the adherence, in the order of the grid.
        report: cost of the search, including the metrics: seconds, network_evaluations, and jacobian_passes if there
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
        """The chosen edit only, as `Inverted.edit` returns it. Its cost is included in `report` of this object."""
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
    """Search for the smallest change with a required adherence to the target prompt; see `sfumato.api.auto_grid`.

    Among the tried settings that reach the adherence, the one with the smallest perceptual distance (LPIPS) to the
    source is chosen. If no setting reaches it, the one with the highest adherence is chosen.

    Args:
        inverted: one inverted image.
        target: target prompt.
        adherence: required cosine similarity (CLIP) between the edit and the target prompt, between -1 and 1; by
            default the similarity between the source image and the source prompt.
        evaluator: networks that measure the edits; by default those of the model's folder, see `evaluator_of`.
        callback: called with the number of settings tried and the largest number that may be tried.
        options: as for `Inverted.edit`; the same for all settings.

    Returns:
        The chosen setting with its edit.

    Raises:
        BadInput: as `Inverted.edit`; or there is more than one image, no target prompt, neither a source prompt nor an
            adherence, or no evaluator; the evaluator cannot encode a prompt; the model has no text input; `skip` and
            `guidance_scale` are both given; or the adherence is out of range.
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
    (image,), (source,) = inverted.edited_images, inverted.prompts
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
        wanted = _own(evaluator, image, texts[0]) if adherence is None else adherence
        tried = grid.search(wanted)
    best = least_change(tried, wanted)
    evaluations = {"calls": count.calls, "samples": count.samples}
    report = {"seconds": round(time.perf_counter() - began, 4), "network_evaluations": evaluations}
    report |= {"jacobian_passes": passes.products} if any(passes.products.values()) else {}
    return Choice(best, wanted, best.scores["clip"] >= wanted, len(tried), tuple(tried), report)


def _own(evaluator: Evaluator, image: LoadedImage, source: str) -> float:
    """Cosine similarity between the image and the source prompt."""
    pixels = (to_tensor(image) + 1) / 2
    return float((evaluator.clip.image_features(pixels) * evaluator.clip.text_features([source])).sum())
