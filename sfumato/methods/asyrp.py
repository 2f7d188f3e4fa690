"""Asyrp: semantic edits by a delta-h that was trained for an attribute, without a target prompt.

Kwon, Jeong, Uh: "Diffusion Models already have a Semantic Latent Space", ICLR 2023, arXiv 2210.10960, with DDIM
inversion. Implemented: the asymmetric reverse process (section 3.2), delta-h from a network f(h, t) and per timestep
(3.3), the interval of the edit and quality boosting (3.4), several attributes, and negative and fractional amounts.
The number of steps can differ from that in training: dh_t is scaled by (steps in training) / (steps of the run), as in
the public code, so that its sum over the run stays the same. Several attributes are summed; the public code divides the
sum by the square root of their number. The run is conditioned on the source prompt. Delta-h are trained with
`sfumato train delta-h`; without one the image is not edited. Not implemented: mixing the h of two images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from sfumato.editing.job import Job
from sfumato.editing.registry import method
from sfumato.errors import BadInput
from sfumato.formats import DELTA_H
from sfumato.options.inversions import EVERY, DDIMParams
from sfumato.options.option import option
from sfumato.options.params import PromptPair

if TYPE_CHECKING:
    from sfumato.core.shift import Shift
    from sfumato.models.diffusion_model import DiffusionModel
    from sfumato.shifts.delta_h import DeltaH

FROM_FILE = -1
"""Value of `t_edit` and `t_boost` that selects the values stored in the files."""


@dataclass(frozen=True)
class AsyrpParams(DDIMParams):
    """The paper's settings: no guidance; the intervals of the edit and of quality boosting are read from the file."""

    needs: ClassVar[tuple[str, ...]] = ("delta",)

    guidance_scale: float = option(
        1.0, "guidance scale of the source prompt in the edit", stage="edit", low=0, high=100
    )
    delta: str = option(
        "",
        'file of a delta-h from `sfumato train delta-h`, or several with weights: "smile.safetensors=1,red.safetensors'
        '=-0.5"; without one the image is not changed',
        stage="edit",
    )
    amount: float = option(
        1.0, "factor of all delta-h; negative values make the opposite edit", stage="edit", low=-100, high=100
    )
    t_edit: int = option(
        FROM_FILE,
        "smallest timestep that is edited; -1 for the value in the file, which is the minimum",
        stage="edit",
        low=FROM_FILE,
        high=999,
    )
    t_boost: int = option(
        FROM_FILE,
        "quality boosting: fresh noise (eta = 1) at timesteps below this; 0 for none, -1 for that of the file, or none "
        "for an inversion with noise maps",
        stage="edit",
        low=FROM_FILE,
        high=999,
    )

    @property
    def keeps_prompt(self) -> bool:
        """True, as the edit needs no target prompt."""
        return True

    def check(self) -> None:
        """Check value ranges, and that options of a delta-h are given only with its file. Raises BadInput."""
        super().check()
        parse_deltas(self.delta)
        given = {"amount": self.amount != 1, "t_edit": self.t_edit >= 0, "t_boost": self.t_boost >= 0}
        for name, wanted in given.items():
            if wanted and not self.delta:
                raise BadInput(f"{name} belongs to a delta-h: give its file as delta, or leave {name} out.")

    @cached_property
    def saved(self) -> tuple[tuple[DeltaH, float], ...]:
        """Every delta-h with its weight, read once; () if none is given. Raises BadInput."""
        from sfumato.shifts.delta_h import DeltaH

        return tuple((DeltaH.load(path), weight) for path, weight in parse_deltas(self.delta).items())

    @property
    def used(self) -> tuple[tuple[DeltaH, float], ...]:
        """The pairs of `saved` whose weight is not 0: a delta-h with weight 0 has no effect. Raises BadInput."""
        return tuple((delta, weight) for delta, weight in self.saved if weight)

    @property
    def files(self) -> Sequence[str]:
        """Paths of the delta-h files."""
        return list(parse_deltas(self.delta))

    def check_headers(self) -> None:
        """Read the headers of the delta-h files. Raises BadInput."""
        for path in self.files:
            DELTA_H.check(path)

    def check_files(self) -> None:
        """Read all delta-h files. Raises BadInput for a file that cannot be read or is not a delta-h."""
        _ = self.saved

    def check_run(self, network: DiffusionModel, size: tuple[int, int], prompts: Sequence[PromptPair]) -> None:
        """Check every delta-h against the model, the layer, the latent size, `t_edit` and the run. Raises BadInput."""
        first = network.schedule.timesteps(self.steps)[self.skip]
        for delta, _ in self.saved:
            delta.check_fits(network, size)
        for delta, _ in self.used:
            if 0 <= self.t_edit < delta.t_edit:
                raise BadInput(
                    f'The delta-h "{delta.attribute}" was trained at timesteps from {delta.t_edit}: t_edit must be at '
                    f"least that, not {self.t_edit}."
                )
            lowest = max(self.t_edit, delta.t_edit)
            if self.amount and first < lowest:
                other = "skip fewer" if self.skip else "use more"
                way = "lower t_edit" if self.t_edit > delta.t_edit else f"{other} steps"
                raise BadInput(
                    f'The delta-h "{delta.attribute}" is added at timesteps from {lowest}, but the edit begins at '
                    f"{first}: {way}."
                )


def parse_deltas(text: str) -> dict[str, float]:
    """Parse files with weights: "a.safetensors" -> {"a.safetensors": 1}, "a=1,b=-0.5" -> {"a": 1, "b": -0.5}.

    Raises:
        BadInput: the text does not have this form, a file occurs twice, or all weights are 0.
    """
    weights: dict[str, float] = {}
    for part in text.split(",") if text.strip() else []:
        path, _, number = part.rpartition("=") if "=" in part else (part, "", "1")
        try:
            weight = float(number)
        except ValueError:
            weight = float("nan")
        if not path.strip() or path.strip() in weights or not abs(weight) <= 100:
            raise BadInput(
                "delta must be the file of a delta-h, or several different ones with weights of at most 100 like "
                f'"smile.safetensors=1,red.safetensors=-0.5", not "{text[:80]}".'
            )
        weights[path.strip()] = weight
    if weights and not any(weights.values()):
        raise BadInput("The weights of delta are all 0: give one of them another weight.")
    return weights


@method(
    "asyrp",
    summary="trained semantic edits (ICLR 2023): delta-h in the bottleneck, asymmetric reverse process",
    params=AsyrpParams,
    inversion="ddim",
    accepts=EVERY,
    under_source=True,
    handles=("prediction", "noise map"),
)
def shifts(job: Job, params: AsyrpParams) -> list[Shift]:
    """Change h for P_t, and apply quality boosting in the last steps; no shifts without a delta-h or at amount 0."""
    from sfumato.shifts.asyrp import Asyrp
    from sfumato.shifts.boost import QualityBoost

    weights = [params.amount * weight * delta.steps / job.inversion.steps for delta, weight in params.used]
    if not any(weights):
        return []
    deltas = [delta.on(job.network.device) for delta, _ in params.used]
    found: list[Shift] = [Asyrp(deltas, weights, None if params.t_edit == FROM_FILE else params.t_edit)]
    of_file = 0 if job.inversion.eta else max(delta.t_boost for delta in deltas)
    below = of_file if params.t_boost == FROM_FILE else params.t_boost
    return [*found, QualityBoost(below, job.seeds)] if below else found
