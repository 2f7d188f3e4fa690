"""SDEdit (img2img): add noise to the image up to a given timestep and denoise it under the target prompt.

Meng et al.: "SDEdit: Guided Image Synthesis and Editing with Stochastic Differential Equations", ICLR 2022,
arXiv 2108.01073. Included for comparison: the noise removes details of the image, so that `skip` is a trade-off between
fidelity to the image and adherence to the prompt. diffusers' img2img with strength s corresponds to
skip = steps - int(steps s).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sfumato.editing.job import Job
from sfumato.editing.registry import method
from sfumato.options.option import option, skip_option
from sfumato.options.params import Params

if TYPE_CHECKING:
    from sfumato.core.shift import Shift


@dataclass(frozen=True)
class SDEditParams(Params):
    """Common settings for Stable Diffusion; the first half of the steps is skipped (strength 0.5)."""

    steps: int = option(50, "number of steps of the run", stage="invert", low=1, high=1000)
    eta: float = option(0.0, "noise added in every step, from 0 (DDIM) to 1 (DDPM)", stage="invert", low=0, high=1)
    skip: int = skip_option(25)
    guidance_scale: float = option(7.5, "guidance scale of the target prompt", stage="edit", low=0, high=100)


@method(
    "sdedit",
    summary="SDEdit / img2img (ICLR 2022): noise, then denoise; does not reconstruct; for comparison",
    params=SDEditParams,
    inversion="sdedit",
    section="sdedit",
    handles=("condition",),
)
def shifts(job: Job, params: SDEditParams) -> list[Shift]:
    """No shifts: the edit is the replay under the target prompt."""
    return []
