"""Edit-friendly DDPM inversion: text-guided editing of real images.

Huberman-Spiegelglas, Kulikov, Michaeli: "An Edit Friendly DDPM Noise Space: Inversion and Manipulations",
CVPR 2024, arXiv 2304.06140. Implemented: the inversion (eq. 5 and 6) and the text edit of section 3. x_T and all
z_t are extracted under the source prompt; the reverse process is then replayed from T - T_skip under the target prompt.
Each prompt has its own guidance scale. A different seed gives a different inversion and a different edit. Every z_t is
stored, including the last one, which the authors' code sets to zero. Image shifting and colour manipulation
(section 2.2) are the methods `shift` and `colour`. Methods that can be combined with this inversion have the option
`inversion`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sfumato.editing.job import Job
from sfumato.editing.registry import method
from sfumato.options.option import option
from sfumato.options.params import Params

if TYPE_CHECKING:
    from sfumato.core.shift import Shift


@dataclass(frozen=True)
class EditFriendlyParams(Params):
    """The paper's settings for Stable Diffusion (section 4)."""

    steps: int = option(100, "number of steps of the run", stage="invert", low=1, high=1000)
    eta: float = option(1.0, "noise per step: 0 is DDIM, 1 is DDPM", stage="invert", above=0, high=1)
    source_guidance_scale: float = option(3.5, "guidance scale of the source prompt", stage="invert", low=0, high=100)
    exact: bool = option(
        False,
        "one timestep per evaluation: smaller error, slower",
        stage="invert",
    )
    skip: int = option(
        36,
        "first steps to skip; higher preserves more",
        stage="edit",
        low=0,
        high=999,
    )
    guidance_scale: float = option(15.0, "guidance scale of the target prompt", stage="edit", low=0, high=100)


@method(
    "edit-friendly",
    summary="edit-friendly DDPM noise maps (CVPR 2024): keeps the structure, reconstructs exactly",
    params=EditFriendlyParams,
    inversion="edit-friendly",
    section="edit",
    handles=("condition", "noise map"),
)
def shifts(job: Job, params: EditFriendlyParams) -> list[Shift]:
    """No shifts: the edit is the replay under the target prompt."""
    return []
