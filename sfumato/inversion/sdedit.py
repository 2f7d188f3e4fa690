"""SDEdit (Meng et al., ICLR 2022, arXiv 2108.01073) as an inversion whose noise maps are drawn instead of extracted.

    x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) e,      z_t ~ N(0, I)

The noise e is the same for all timesteps. The network is not evaluated, and the noise maps do not depend on the image:
only the noise level at which the run starts (`skip`) determines how much of the image is preserved.
"""

from collections.abc import Generator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.condition import Condition
from sfumato.core.guidance import Guided
from sfumato.core.noise import gaussian_batch
from sfumato.core.state import StepEnd
from sfumato.core.step import diffuse, sigma
from sfumato.inversion.artifact import Inversion
from sfumato.inversion.registry import inversion


def invert_sdedit(
    guided: Guided,
    x0: Float[Tensor, "b c h w"],
    *,
    steps: int,
    eta: float = 0.0,
    seeds: Sequence[int],
) -> Generator[StepEnd, None, Inversion]:
    """SDEdit: return the `Inversion` with one noise e per image. The generator yields no step.

    Args:
        guided: the network; only its schedule and guidance scales are used.
        x0: clean latents, float32.
        steps: number of steps of the run.
        eta: 0 (a deterministic run without noise maps) to 1.
        seeds: one per image.

    Raises:
        BadInput: steps is out of range.
    """
    schedule, shape, device = guided.schedule, x0.shape[1:], x0.device
    timesteps = schedule.timesteps(steps)
    e = gaussian_batch(shape, seeds, step=len(schedule), tag="sdedit", device=device)
    levels = [diffuse(x0, e, schedule.abar(t)).to(x0.dtype) for t in timesteps]
    maps = [
        gaussian_batch(shape, seeds, step=t, tag="sdedit", device=device)
        if sigma(schedule.abar(t), schedule.abar(t_prev), eta) > 0
        else torch.zeros_like(x0)
        for t, t_prev in zip(timesteps, schedule.previous(timesteps), strict=True)
    ]
    z = torch.stack(maps).to(x0.dtype) if eta > 0 else None
    yield from ()
    return Inversion(
        "sdedit", torch.stack([*levels, x0]), z, tuple(timesteps), eta, guided.guidance_scale, tuple(seeds)
    )


@inversion("sdedit", summary="SDEdit: the image with fresh noise; does not reconstruct")
def _by_name(
    guided: Guided, x0: Tensor, condition: Condition, params: Any, *, seeds: Sequence[int], batch: int | None
) -> Generator[StepEnd, None, Inversion]:
    return (yield from invert_sdedit(guided, x0, steps=params.steps, eta=params.eta, seeds=seeds))
