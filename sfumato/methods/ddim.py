"""DDIM inversion and deterministic replay under the target prompt.

Song, Meng, Ermon: "Denoising Diffusion Implicit Models", ICLR 2021, arXiv 2010.02502, section 4.3. The
reconstruction is approximate. Its error decreases with the number of steps and increases with the guidance scale, so
the source guidance scale is 1 by default (Mokady et al., arXiv 2211.09794, section 3). Not implemented: null-text
optimisation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sfumato.editing.job import Job
from sfumato.editing.registry import method
from sfumato.options.inversions import DDIMParams

if TYPE_CHECKING:
    from sfumato.core.shift import Shift


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
