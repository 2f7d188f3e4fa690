"""The edit-friendly DDPM inversion (Huberman-Spiegelglas, Kulikov and Michaeli, CVPR 2024, arXiv 2304.06140).

    x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) e_t,   e_t ~ N(0, I) independent for every t      (eq. 6)
    z_t = (x_{t-1} - mu_t(x_t)) / sigma_t                                                        (eq. 5)

In DDPM's forward process the noises e_t of consecutive timesteps are strongly correlated; here they are independent.
The distance between consecutive x_t is therefore larger, and the z_t have a larger variance than those of the native
inversion and encode the structure of the image.
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
from sfumato.core.step import diffuse
from sfumato.inversion.artifact import Inversion
from sfumato.inversion.extract import Latents, extract_noise_maps
from sfumato.inversion.registry import inversion


def independent_latents(
    guided: Guided, x0: Float[Tensor, "b c h w"], timesteps: list[int], seeds: Sequence[int]
) -> Latents:
    """Compute the latents x_T, ..., x_0 of eq. 6, [levels,b,c,h,w]; e_t is a function of (seed, t) only."""
    levels = [
        diffuse(
            x0,
            gaussian_batch(x0.shape[1:], seeds, step=t, tag="edit-friendly", device=x0.device),
            guided.schedule.abar(t),
        ).to(x0.dtype)
        for t in timesteps
    ]
    return torch.stack([*levels, x0])


def invert_edit_friendly(
    guided: Guided,
    x0: Float[Tensor, "b c h w"],
    condition: Condition,
    *,
    steps: int,
    eta: float = 1.0,
    seeds: Sequence[int],
    exact: bool = False,
    batch: int | None = None,
) -> Generator[StepEnd, None, Inversion]:
    """Edit-friendly inversion: yield every step and return the `Inversion` with all noise maps.

    Args:
        guided: the network with the guidance of the source prompt, one row per image.
        x0: clean latents, float32.
        condition: condition of the source prompt, one row per image.
        steps: number of steps of the run.
        eta: 0 < eta <= 1.
        seeds: one per image; a different seed gives a different inversion, which is equally exact.
        exact: see `extract_noise_maps`.
        batch: see `extract_noise_maps`.

    Raises:
        BadInput: steps is out of range.
        NonFinite: as `extract_noise_maps`.
    """
    timesteps = guided.schedule.timesteps(steps)
    latents = independent_latents(guided, x0, timesteps, seeds)
    x, z = yield from extract_noise_maps(guided, latents, timesteps, condition, eta=eta, exact=exact, batch=batch)
    return Inversion("edit-friendly", x, z, tuple(timesteps), eta, guided.guidance_scale, tuple(seeds))


@inversion("edit-friendly", summary="independent noise maps that contain the structure of the image")
def _by_name(
    guided: Guided, x0: Tensor, condition: Condition, params: Any, *, seeds: Sequence[int], batch: int | None
) -> Generator[StepEnd, None, Inversion]:
    options = {"steps": params.steps, "eta": params.eta, "exact": params.exact}
    return (yield from invert_edit_friendly(guided, x0, condition, **options, seeds=seeds, batch=batch))
