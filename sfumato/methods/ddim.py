"""DDIM inversion and deterministic replay under the target prompt.

Song, Meng, Ermon: "Denoising Diffusion Implicit Models", ICLR 2021, arXiv 2010.02502, section 4.3. The
reconstruction is approximate. Its error decreases with the number of steps and increases with the guidance scale, so
the source guidance scale is 1 by default (Mokady et al., arXiv 2211.09794, section 3). Not implemented: null-text
optimisation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sfumato.editing.job import Job
from sfumato.editing.registry import method
from sfumato.options.params import Params, option, skip_option

if TYPE_CHECKING:
    from sfumato.core.shift import Shift


@dataclass(frozen=True)
class DDIMParams(Params):
    """Usual settings for Stable Diffusion: 50 steps, inversion without guidance."""

    steps: int = option(50, "number of steps of the run", stage="invert", low=1, high=1000)
    source_guidance_scale: float = option(1.0, "guidance scale of the source prompt", stage="invert", low=0, high=100)
    refine: int = option(
        0, "fixed-point iterations per step, for a more exact inversion", stage="invert", low=0, high=100
    )
    skip: int = skip_option(0)
    guidance_scale: float = option(7.5, "guidance scale of the target prompt", stage="edit", low=0, high=100)


@method(
    "ddim",
    summary="DDIM inversion (ICLR 2021): deterministic, approximate reconstruction",
    params=DDIMParams,
    inversion="ddim",
    section="ddim",
    handles=("condition",),
)
def shifts(job: Job, params: DDIMParams) -> list[Shift]:
    """No shifts: the edit is the replay under the target prompt."""
    return []
