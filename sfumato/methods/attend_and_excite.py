"""Attend-and-Excite: gradient steps on the latent that increase the attention to neglected objects of the prompt.

Chefer, Alaluf, Vinker, Wolf, Cohen-Or: "Attend-and-Excite: Attention-Based Semantic Guidance for Text-to-Image
Diffusion Models", SIGGRAPH 2023, arXiv 2301.13826, section 3. In the first half of the steps, x_t is updated by a
gradient step that decreases 1 - max A of the object with the lowest max A. The step size is that of the authors' code,
20 sqrt(1 - i / (2 (steps - 1))). At 0, 1/5 and 2/5 of the steps (0, 10 and 20 of 50), the gradient step is repeated
until max A of every object has reached 0.05, 0.5 and 0.8, respectively, at most 20 times as in the authors' code. The
authors' code makes one more step after the thresholds are reached, because it compares max A of the latent before the
step. Softmax and filter of the maps are those of the authors' code (`sfumato.shifts.energy.presence`). With
`normalize_eot` (as there, for Stable Diffusion 2.1) the softmax has only the tokens of the text. Its input is 100 times
the maps: if another token gets most of the attention, the result for the objects is close to 0, and so is the gradient.
The method can be used in generation and with inverted images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sfumato.editing.job import Job
from sfumato.editing.registry import method
from sfumato.errors import BadInput
from sfumato.options.inversions import EVERY
from sfumato.options.named_objects import ObjectsParams, presence
from sfumato.options.objects import is_number, read_numbers
from sfumato.options.option import option
from sfumato.ranges import Range

if TYPE_CHECKING:
    from sfumato.core.shift import Shift
    from sfumato.shifts.energy.term import Term


@dataclass(frozen=True)
class AttendAndExciteParams(ObjectsParams):
    """The settings of the authors' code."""

    step_size: float = option(20.0, "step size of the gradient on x_t in the first step", stage="edit", low=0, high=1e6)
    thresholds: str = option(
        "0: 0.05; 0.2: 0.5; 0.4: 0.8",
        "FRACTION: ATTENTION; ...: at these fractions of the run, gradient steps are repeated until the attention to "
        "every object reaches this value; empty for one gradient step in every step",
        stage="edit",
    )
    refinements: int = option(
        20, "largest number of repeated gradient steps in one step of the run", stage="edit", low=0, high=1000
    )
    normalize_eot: bool = option(
        False,
        "softmax over the tokens of the text only, as in the authors' code for Stable Diffusion 2.1; otherwise end and "
        "padding tokens are included",
        stage="edit",
    )

    def check(self) -> None:
        """Check ranges, the list of objects and the thresholds. Raises BadInput."""
        super().check()
        self.attention()

    def attention(self) -> dict[float, float]:
        """Return the thresholds by fraction of the run.

        Raises:
            BadInput: the text cannot be parsed, or names a fraction twice.
        """
        within = Range(low=0, high=1)
        found = read_numbers("thresholds", self.thresholds, [within], 1, "FRACTION: ATTENTION")
        for text in found:
            if not is_number(text) or float(text) not in within:
                raise BadInput(f"thresholds must be FRACTION: ATTENTION with fractions {within}, not {text}.")
        thresholds = {float(text): threshold for text, (threshold,) in found.items()}
        if len(thresholds) < len(found):
            raise BadInput(
                f'thresholds names a fraction of the run twice: give each one once, not "{self.thresholds}".'
            )
        return thresholds


@method(
    "attend-and-excite",
    summary="gradient steps on the latent that increase the attention to neglected objects (SIGGRAPH 2023)",
    params=AttendAndExciteParams,
    inversion="edit-friendly",
    accepts=EVERY,
    section="attend-and-excite",
    handles=("condition", "latent"),
    generates=True,
)
def shifts(job: Job, params: AttendAndExciteParams) -> list[Shift]:
    """Gradient steps on x_t; no shifts if no objects are given."""
    from sfumato.shifts.energy.guidance import IterativeRefinement, window

    named = params.named()
    if not named:
        return []
    terms: tuple[tuple[Term, float], ...] = (
        (presence(job, named, published=True, normalize_eot=params.normalize_eot), 1.0),
    )
    return [
        IterativeRefinement(
            terms,
            params.step_size,
            window(0, params.end),
            "plain",
            "attend-and-excite",
            thresholds=params.attention(),
            most=params.refinements,
        )
    ]
