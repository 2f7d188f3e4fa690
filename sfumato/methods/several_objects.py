"""Several objects in one image: every named object is present, apart from the others, and has its own attributes.

- `attend-and-excite`, the published baseline: Chefer, Alaluf, Vinker, Wolf, Cohen-Or: "Attend-and-Excite:
Attention-Based
  Semantic Guidance for Text-to-Image Diffusion Models", SIGGRAPH 2023, arXiv 2301.13826. A gradient step on x_t against
  1 - max A of the most neglected object (eq. 2 to 4) in the first half of the steps, with the step size of the authors'
  code, 20 sqrt(1 - i / (2 (steps - 1))). Not implemented: iterative refinement until thresholds at steps 0, 10 and 20.
- `objects`, ours: the noise is guided by the sum of three energies: presence (the mean over all objects), the overlap
of
  objects, and the overlap of attributes with their object.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.condition import Condition
from sfumato.core.shift import Shift
from sfumato.errors import BadInput
from sfumato.methods.inversions import EVERY, InversionParams
from sfumato.methods.job import Job
from sfumato.methods.objects import weights_of, word_of
from sfumato.methods.params import PromptPair, option
from sfumato.methods.registry import method
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.models.layout import word_layers
from sfumato.shifts.energy.guidance import LatentGuidance, NoiseGuidance, window
from sfumato.shifts.energy.pairs import Apart, Bound
from sfumato.shifts.energy.presence import Presence
from sfumato.shifts.energy.term import Term


@dataclass(frozen=True)
class ObjectsParams(InversionParams):
    """Which objects, and in which steps."""

    needs_text: ClassVar[bool] = True

    objects: str = option("", 'objects of the prompt, with their attributes: "red heart, cat face"', stage="edit")
    end: float = option(0.5, "share of the steps at which the guidance ends", stage="edit", low=0, high=1)

    def named(self) -> list[list[str]]:
        """Words of each object: its attributes, then its noun. Raises BadInput for an empty object."""
        parts = [part.split() for part in self.objects.split(",")] if self.objects.strip() else []
        if not all(parts):
            raise BadInput(f'objects are separated by commas, like "red heart, cat face", not "{self.objects}".')
        return parts

    def check(self) -> None:
        """Check ranges and the list of objects. Raises BadInput."""
        super().check()
        self.named()

    def check_run(self, network: DiffusionModel, size: tuple[int, int], prompts: Sequence[PromptPair]) -> None:
        """Check that every prompt contains all objects. Raises BadInput."""
        if self.objects and not prompts:
            raise BadInput("The text encoders of this model split the prompts differently, so words have no positions.")
        for _, target in prompts:
            for words in self.named():
                target.positions(" ".join(words))


@dataclass(frozen=True)
class AttendAndExciteParams(ObjectsParams):
    """The settings of the authors' code."""

    step_size: float = option(20.0, "step size of the gradient on x_t in the first step", stage="edit", low=0, high=1e6)


@dataclass(frozen=True)
class OwnObjectsParams(ObjectsParams):
    """Weights of the energies."""

    energy_scale: float = option(1.0, "RMS of the move of the noise", stage="edit", low=0, high=1e6)
    presence_weight: float = option(1.0, "weight of the presence of all objects", stage="edit", low=0, high=1e6)
    apart_weight: float = option(1.0, "weight of the overlap of objects", stage="edit", low=0, high=1e6)
    bound_weight: float = option(1.0, "weight of attributes away from their object", stage="edit", low=0, high=1e6)


@dataclass(frozen=True, eq=False)
class FallingSteps(LatentGuidance):
    """Gradient steps whose size falls with the steps as sqrt(1 - i / (2 (steps - 1)))."""

    def size(self, i: int, steps: int) -> float:
        """v of step i."""
        return self.scale * float((1 - i / (2 * max(1, steps - 1))) ** 0.5)


@method(
    "attend-and-excite",
    summary="gradient steps on the latent until no object is neglected (SIGGRAPH 2023)",
    params=AttendAndExciteParams,
    inversion="edit-friendly",
    accepts=EVERY,
    section="attend-and-excite",
    handles=("condition", "latent"),
    generates=True,
)
def attend_and_excite(job: Job, params: AttendAndExciteParams) -> list[Shift]:
    """The step on x_t, or nothing without objects."""
    if not params.objects:
        return []
    terms: tuple[tuple[Term, float], ...] = ((presence(job, params.named(), worst=True), 1.0),)
    return [FallingSteps(terms, params.step_size, window(0, params.end), "plain", "attend-and-excite")]


@method(
    "objects",
    summary="several objects: all present, apart, each with its own attributes",
    params=OwnObjectsParams,
    inversion="edit-friendly",
    accepts=EVERY,
    section="objects",
    handles=("condition", "noise"),
    generates=True,
)
def objects(job: Job, params: OwnObjectsParams) -> list[Shift]:
    """The guidance of the noise, or nothing without objects."""
    named = params.named()
    if not named:
        return []
    nouns = [word_of(job, words[-1]) for words in named]
    terms: list[tuple[Term, float]] = [(presence(job, named, worst=False), params.presence_weight)]
    if len(nouns) > 1:
        terms.append((Apart(tuple(nouns)), params.apart_weight))
    for words, noun in zip(named, nouns, strict=True):
        terms += [(Bound(word_of(job, attribute), noun), params.bound_weight) for attribute in words[:-1]]
    chosen = tuple((term, weight) for term, weight in terms if weight)
    return [NoiseGuidance(chosen, params.energy_scale, window(0, params.end), "unit", "objects")]


def presence(job: Job, named: Sequence[Sequence[str]], *, worst: bool) -> Presence:
    """The energy of the nouns of the objects."""
    layers, grid = word_layers(job.network.unet, job.size)
    words = tuple(weights_of(job.condition, each[-1]) for each in named)
    return Presence(layers, grid, words, text_of(job.condition), worst)


def text_of(condition: Condition) -> Float[Tensor, "b n"]:
    """1 for tokens of the text of each prompt, 0 for start, end and padding."""
    assert condition.tokens is not None
    found = torch.zeros(condition.tokens.shape[:2])
    for row, prompt in zip(found, condition.prompts, strict=True):
        row[1 : len(prompt.ids) - 1] = 1
    return found
