"""SDEdit: noise the picture to some level and denoise it under another prompt; the baseline called img2img.

Meng et al.: "SDEdit: Guided Image Synthesis and Editing with Stochastic Differential Equations", ICLR 2022,
arXiv 2108.01073. Here to be compared with: what the noise covers is lost, so `skip` trades the picture against the
prompt. diffusers' img2img with strength s is the same run with skip = steps - int(steps s).
"""

from dataclasses import dataclass

from sfumato.core.shift import Shift
from sfumato.methods.job import Job
from sfumato.methods.params import Params, option
from sfumato.methods.registry import method


@dataclass(frozen=True)
class SDEditParams(Params):
    """Usual settings for Stable Diffusion; half of the steps are left out."""

    steps: int = option(50, "number of steps of the run", stage="invert", low=1, high=1000)
    eta: float = option(0.0, "share of the DDPM noise in every step", stage="invert", low=0, high=1)
    skip: int = option(
        25,
        "steps left out at the noisy end; more keeps more",
        stage="edit",
        low=0,
        high=999,
    )
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
    """None: the replay under the target prompt is the edit."""
    return []
