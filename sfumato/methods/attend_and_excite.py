"""Attend-and-Excite: gradient steps on the latent so that no object of the prompt is neglected.

Chefer, Alaluf, Vinker, Wolf, Cohen-Or: "Attend-and-Excite: Attention-Based Semantic Guidance for Text-to-Image
Diffusion Models", SIGGRAPH 2023, arXiv 2301.13826, section 3. In the first half of the steps, x_t makes a gradient step
against 1 - max A of the most neglected object, with the step size of the authors' code, 20 sqrt(1 - i / (2 (steps -
1))). Also acts on inverted images. Not implemented: iterative refinement until thresholds at steps 0, 10 and 20.
"""

from dataclasses import dataclass

from sfumato.core.shift import Shift
from sfumato.methods.inversions import EVERY
from sfumato.methods.job import Job
from sfumato.methods.named_objects import ObjectsParams, presence
from sfumato.methods.params import option
from sfumato.methods.registry import method
from sfumato.shifts.energy.guidance import LatentGuidance, window
from sfumato.shifts.energy.term import Term


@dataclass(frozen=True)
class AttendAndExciteParams(ObjectsParams):
    """The settings of the authors' code."""

    step_size: float = option(20.0, "step size of the gradient on x_t in the first step", stage="edit", low=0, high=1e6)


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
def shifts(job: Job, params: AttendAndExciteParams) -> list[Shift]:
    """The step on x_t, or nothing without objects."""
    if not params.objects:
        return []
    terms: tuple[tuple[Term, float], ...] = ((presence(job, params.named(), worst=True), 1.0),)
    return [FallingSteps(terms, params.step_size, window(0, params.end), "plain", "attend-and-excite")]
