"""Self-Guidance: objects moved, resized or reshaped by energies of the network's own attention maps and features.

Epstein, Jabri, Poole, Efros, Holynski: "Diffusion Self-Guidance for Controllable Image Generation", NeurIPS 2023, arXiv
2306.00986. Energies (section 3): centroid, size, shape and appearance of the maps of words; all of a step share one
backward pass. For real images the values of the source are those of its inversion at the same step.
Every other word of both prompts keeps its shape and appearance. Two schedules: that of the paper and the
window of the authors' notebook. Differences are absolute values, as in the paper, made smooth at 0; public
reimplementations with signed means have no gradient where parts of an object swap. Not implemented: appearance and
layout from other images.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, cast

import torch

from sfumato.core.prompt import Prompt
from sfumato.core.shift import Shift
from sfumato.errors import BadInput
from sfumato.methods.inversions import EVERY, DeterministicParams
from sfumato.methods.job import Job
from sfumato.methods.objects import Changes, parse, read_numbers, word_of
from sfumato.methods.params import PromptPair, option
from sfumato.methods.registry import method
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.ranges import Range
from sfumato.shifts.energy.appearance import Appearance
from sfumato.shifts.energy.centroid import Centroid
from sfumato.shifts.energy.guidance import GRADIENTS, Gradient, NoiseGuidance, Schedule, thirds, window
from sfumato.shifts.energy.shape import Shape
from sfumato.shifts.energy.size import Size
from sfumato.shifts.energy.term import Term
from sfumato.shifts.energy.word import Word


@dataclass(frozen=True)
class SelfGuidanceParams(DeterministicParams):
    """What to change, weights of the energies, and their schedule."""

    needs_text: ClassVar[bool] = True

    guidance_scale: float = option(1.0, "guidance scale of the target prompt", stage="edit", low=0, high=100)
    move: str = option(
        "", 'displacements right and down, shares of the image: "fox: 0.2, 0; ball: 0, -0.1"', stage="edit"
    )
    resize: str = option("", 'factors of the width and height of objects: "fox: 1.5"', stage="edit")
    reshape: str = option("", 'factors of width and height, and a rotation in degrees: "fox: 1, 0.5, 30"', stage="edit")
    place: str = option(
        "", 'centres of objects, shares of width and height from the upper left: "fox: 0.3, 0.5"', stage="edit"
    )
    cover: str = option("", 'shares of the image that objects cover: "fox: 0.25"', stage="edit")
    energy_scale: float = option(1.0, "strength of the guidance by the energies, v", stage="edit", low=0, high=1e6)
    gradient: str = option(
        "unit",
        "unit: gradient of unit RMS; sigma: times sqrt(1 - abar_t), as in the paper; plain: as in the notebook",
        stage="edit",
        choices=GRADIENTS,
    )
    schedule: str = option(
        "thirds",
        "guided steps: thirds (first 3/16, then every other one, as in the paper) or window (from start to end)",
        stage="edit",
        choices=("thirds", "window"),
    )
    start: float = option(0.0, "share of the steps at which the window begins", stage="edit", low=0, high=1)
    end: float = option(0.5, "share of the steps at which the window ends", stage="edit", low=0, high=1)
    centroid_weight: float = option(1.0, "weight of the position of moved objects", stage="edit", low=0, high=1e6)
    size_weight: float = option(1.0, "weight of the size of changed objects", stage="edit", low=0, high=1e6)
    shape_weight: float = option(0.5, "weight of all shapes", stage="edit", low=0, high=1e6)
    appearance_weight: float = option(0.1, "weight of all appearances", stage="edit", low=0, high=1e6)

    @property
    def keeps_prompt(self) -> bool:
        """The prompt may stay as it is."""
        return True

    def check(self) -> None:
        """Check ranges and the words with their numbers. Raises BadInput."""
        super().check()
        changes, targets = self.changes(), self.targets()
        if self.schedule == "window" and self.start >= self.end:
            raise BadInput(f"start must be below end = {self.end:g}, not {self.start:g}.")
        if (changes or targets) and not any((self.centroid_weight, self.size_weight, self.shape_weight)):
            raise BadInput("One of centroid_weight, size_weight and shape_weight must be above 0.")

    def changes(self) -> Changes:
        """Words and how their objects change. Raises BadInput for text that cannot be parsed."""
        return parse(self.move, self.resize, self.reshape)

    def targets(self) -> list[tuple[str, str, tuple[float, ...]]]:
        """Words with absolute targets, as (option, word, numbers). Raises BadInput for text that cannot be parsed."""
        share = Range(low=0, high=1)
        places = read_numbers("place", self.place, [share, share], 2)
        shares = read_numbers("cover", self.cover, [Range(above=0, high=1)], 1)
        return [("place", *item) for item in places.items()] + [("cover", *item) for item in shares.items()]

    def changed(self) -> list[str]:
        """Words of all objects that change, each once."""
        return list(dict.fromkeys([*self.changes(), *(word for _, word, _ in self.targets())]))

    def check_run(self, network: DiffusionModel, size: tuple[int, int], prompts: Sequence[PromptPair]) -> None:
        """Check that the words are in both prompts. Raises BadInput."""
        if not self.changed():
            return
        if not prompts:
            raise BadInput("The text encoders of this model split the prompts differently, so words have no positions.")
        for source, target in prompts:
            for word in self.changed():
                source.positions(word)
                target.positions(word)


@method(
    "self-guidance",
    summary="energies of attention maps (NeurIPS 2023): objects moved, resized, reshaped",
    params=SelfGuidanceParams,
    inversion="ddim",
    accepts=EVERY,
    section="self-guidance",
    handles=("noise",),
    generates=True,
)
def shifts(job: Job, params: SelfGuidanceParams) -> list[Shift]:
    """The energies of the changed objects and, with a source image, of all others.

    Raises:
        BadInput: move, resize or reshape without a source image.
    """
    changes = params.changes()
    if changes and not job.has_source:
        raise BadInput("move, resize and reshape are relative to a source image: use place and cover to generate.")
    if not params.changed():
        return []
    module = f"up_blocks.{len(job.network.unet.up_blocks) - 1}"
    terms: list[tuple[Term, float]] = []
    for name, warp in changes.items():
        word = word_of(job, name)
        terms += [
            (Centroid(word, warp.right, warp.down), params.centroid_weight),
            (Size(word, warp.area), params.size_weight),
            (Shape(word, warp), params.shape_weight),
            (Appearance(word, module), params.appearance_weight),
        ]
    for kind, name, numbers in params.targets():
        word = word_of(job, name)
        if kind == "place":
            terms.append((Centroid(word, at=(numbers[0], numbers[1])), params.centroid_weight))
        else:
            terms.append((Size(word, share=numbers[0]), params.size_weight))
    for word in others(job, params.changed()) if job.has_source else ():
        terms += [(Shape(word), params.shape_weight), (Appearance(word, module), params.appearance_weight)]
    schedule: Schedule = thirds if params.schedule == "thirds" else window(params.start, params.end)
    chosen = tuple((term, weight) for term, weight in terms if weight)
    gradient = cast(Gradient, params.gradient)
    return [NoiseGuidance(chosen, params.energy_scale, schedule, gradient, "self-guidance")]


def others(job: Job, changed: Sequence[str]) -> list[Word]:
    """The words that the source and target prompt of an image share, without those of changed phrases.

    A word has the weight 0 in images whose prompts lack it, or in which it belongs to a changed phrase.
    """
    kept = [_kept(*prompts, changed) for prompts in zip(job.source.prompts, job.condition.prompts, strict=True)]
    found = []
    for name in dict.fromkeys(name for names in kept for name in names):
        word, rows = word_of(job, name), torch.tensor([[float(name in names)] for names in kept])
        assert word.source is not None
        found.append(replace(word, target=word.target * rows, source=word.source * rows))
    return found


def _kept(source: Prompt, target: Prompt, changed: Sequence[str]) -> list[str]:
    taken = {position for name in changed for position in target.positions(name)}
    free = [word for word, places in zip(target.words, target.places, strict=True) if not taken & set(places)]
    return [word for word in free if word.isalpha() and source.has(word)]
