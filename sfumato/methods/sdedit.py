"""SDEdit: noise the picture to some level and denoise it under another prompt; the baseline called img2img.

Meng et al.: "SDEdit: Guided Image Synthesis and Editing with Stochastic Differential Equations", ICLR 2022,
arXiv 2108.01073. Here to be compared with: what the noise covers is lost, so `skip` trades the picture against the
prompt. diffusers' img2img with strength s is the same run with skip = steps - int(steps s).
"""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sfumato.core.guidance import Guided
from sfumato.core.shift import Shift
from sfumato.core.state import StepState
from sfumato.inversion import Inversion, invert_sdedit, replay
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
    strength: float = option(7.5, "guidance strength of the target prompt", stage="edit", low=0, high=100)


def invert(
    guided: Guided,
    x0: Tensor,
    condition: Any,
    params: SDEditParams,
    *,
    seeds: Sequence[int],
    batch: int | None,
) -> Generator[StepState, None, Inversion]:
    """Nothing is evaluated: the source prompt and the batch change nothing."""
    return (yield from invert_sdedit(guided, x0, steps=params.steps, eta=params.eta, seeds=seeds))


@method(
    "sdedit",
    summary="SDEdit / img2img (ICLR 2022): noise, then denoise; does not reconstruct; for comparison",
    params=SDEditParams,
    invert=invert,
    section="sdedit",
    handles=("condition",),
)
def edit(
    guided: Guided,
    inversion: Inversion,
    condition: Any,
    params: SDEditParams,
    *,
    shifts: Sequence[Shift],
) -> Iterator[StepState]:
    """Denoise from the chosen level under the target prompt."""
    yield from replay(guided, inversion, condition, skip=params.skip, shifts=shifts)
