"""Image shifting: translate the first latent and all noise maps of an inversion, and replay.

Huberman-Spiegelglas, Kulikov, Michaeli: "An Edit Friendly DDPM Noise Space: Inversion and Manipulations",
CVPR 2024, arXiv 2304.06140, section 2.2. Edit-friendly noise maps encode the structure of the image, so that their
translation translates the image; native DDPM noise maps do not. Under the source prompt and its guidance scale the
result is the translated image, and under a target prompt an edit of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sfumato.editing.job import Job
from sfumato.editing.registry import method
from sfumato.options.inversions import InversionParams
from sfumato.options.option import option
from sfumato.options.params import PromptPair

if TYPE_CHECKING:
    from sfumato.core.shift import Shift
    from sfumato.models.diffusion_model import DiffusionModel


@dataclass(frozen=True)
class ShiftParams(InversionParams):
    """Translation in latent positions, which are 8 image pixels in Stable Diffusion and in the bundled model."""

    needs: ClassVar[tuple[str, ...]] = ("right", "down")

    inversion: str = option(
        "edit-friendly", "name of the inversion", stage="invert", choices=("edit-friendly", "native-ddpm")
    )
    right: int = option(
        0, "shift to the right in latent pixels; negative values shift to the left", stage="edit", low=-999, high=999
    )
    down: int = option(
        0, "downward shift in latent pixels; negative values shift upwards", stage="edit", low=-999, high=999
    )

    @property
    def keeps_prompt(self) -> bool:
        """True, as the edit uses the source prompt if no target prompt is given."""
        return True

    def check_run(self, network: DiffusionModel, size: tuple[int, int], prompts: Sequence[PromptPair]) -> None:
        """Check that the shift is smaller than the width and height of the image. Raises BadInput."""
        from sfumato.shifts.translate import check_move

        check_move(self.right, self.down, size)


@method(
    "shift",
    summary="image shifting (CVPR 2024): translates the first latent and all noise maps",
    params=ShiftParams,
    inversion="edit-friendly",
    accepts=("edit-friendly", "native-ddpm"),
    section="shift",
    handles=("latent", "noise map"),
)
def shifts(job: Job, params: ShiftParams) -> list[Shift]:
    """Translate the first latent and every noise map."""
    from sfumato.shifts.translate import Translate

    return [Translate(params.right, params.down)]
