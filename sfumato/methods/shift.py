"""Image shifting: the start and all noise maps of an inversion moved, and replayed.

Huberman-Spiegelglas, Kulikov, Michaeli: "An Edit Friendly DDPM Noise Space: Inversion and Manipulations",
CVPR 2024, arXiv 2304.06140, section 2.2. Edit-friendly noise maps carry the structure of the picture, so it moves with
them; native ones lose it. Under the source prompt and its guidance scale this is the picture moved, under another
prompt an edit of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sfumato.core.shift import Shift
from sfumato.errors import BadInput
from sfumato.methods.inversions import DETERMINISTIC, InversionParams
from sfumato.methods.job import Job
from sfumato.methods.params import PromptPair, option
from sfumato.methods.registry import method
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.shifts.translate import Translate, check_move


@dataclass(frozen=True)
class ShiftParams(InversionParams):
    """One latent is `factor` pixels: 8 in Stable Diffusion, 4 in the shipped model."""

    right: int = option(0, "latents by which the picture is moved to the right", stage="edit", low=-999, high=999)
    down: int = option(0, "latents by which the picture is moved downwards", stage="edit", low=-999, high=999)

    @property
    def keeps_prompt(self) -> bool:
        """The picture may stay what it is."""
        return True

    def check(self) -> None:
        """Ranges, and an inversion that has noise maps. Raises BadInput."""
        super().check()
        if self.inversion in DETERMINISTIC:
            raise BadInput(f"{self.inversion} has no noise maps to shift: use edit-friendly or native-ddpm.")

    def check_run(self, network: DiffusionModel, size: tuple[int, int], prompts: Sequence[PromptPair]) -> None:
        """Refuse a move out of the picture. Raises BadInput."""
        check_move(self.right, self.down, size)


@method(
    "shift",
    summary="image shifting (CVPR 2024): all noise maps moved, and the picture with them",
    params=ShiftParams,
    inversion="edit-friendly",
    accepts=("edit-friendly", "native-ddpm"),
    section="shift",
    handles=("latent", "noise map"),
)
def shifts(job: Job, params: ShiftParams) -> list[Shift]:
    """The first latent and every noise map moved."""
    return [Translate(params.right, params.down)]
