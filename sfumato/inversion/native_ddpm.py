"""The native DDPM inversion, for comparison: latents of the generative process (arXiv 2304.06140, section 2.1).

x_T is drawn from N(0, I). At each step the noise that leads from x_0 to x_t,

    e_t = (x_t - sqrt(abar_t) x_0) / sqrt(1 - abar_t),

replaces the predicted noise in mu_t, and a fresh z gives x_{t-1}. With eta = 1 the latents then have the distribution
of DDPM's forward process, except for the mean of x_T, 0 instead of sqrt(abar_T) x_0, which also enters the latents
after it. The noise maps extracted from them are distributed like those of sampling. They reconstruct the image as
exactly as edit-friendly ones, but do not preserve its structure under another prompt.
"""

from collections.abc import Generator, Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.condition import Condition
from sfumato.core.guidance import Guided
from sfumato.core.noise import gaussian_batch
from sfumato.core.state import StepEnd
from sfumato.core.step import combine, direction, sigma, step, to_float64
from sfumato.inversion.artifact import Inversion
from sfumato.inversion.extract import Latents, extract_noise_maps
from sfumato.inversion.registry import inversion


def native_latents(
    guided: Guided,
    x0: Float[Tensor, "b c h w"],
    timesteps: list[int],
    eta: float,
    seeds: Sequence[int],
) -> Latents:
    """Draw x_T, ..., x_0 from the process that ends at x_0, [levels,b,c,h,w]; noise is a function of (seed, t)."""
    schedule = guided.schedule
    shape, device = x0.shape[1:], x0.device
    levels = [gaussian_batch(shape, seeds, step=len(schedule), tag="native", device=device, dtype=x0.dtype)]
    for t, t_prev in pairwise(timesteps):
        abar, abar_prev = schedule.abar(t), schedule.abar(t_prev)
        deviation = sigma(abar, abar_prev, eta)
        e = (to_float64(levels[-1]) - abar**0.5 * to_float64(x0)) / (1 - abar) ** 0.5
        z = gaussian_batch(shape, seeds, step=t, tag="native", device=device) if deviation > 0 else None
        mean = combine(to_float64(x0), direction(e, abar_prev, deviation), abar_prev)
        levels.append(step(mean, z, deviation).to(x0.dtype))
    return torch.stack([*levels, x0])


def invert_native(
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
    """Native inversion: yield every step and return the `Inversion`.

    The arguments and errors are those of `invert_edit_friendly`.
    """
    timesteps = guided.schedule.timesteps(steps)
    latents = native_latents(guided, x0, timesteps, eta, seeds)
    x, z = yield from extract_noise_maps(guided, latents, timesteps, condition, eta=eta, exact=exact, batch=batch)
    return Inversion("native-ddpm", x, z, tuple(timesteps), eta, guided.guidance_scale, tuple(seeds))


@inversion("native-ddpm", summary="noise maps as in sampling; they do not preserve the structure of the image")
def _by_name(
    guided: Guided, x0: Tensor, condition: Condition, params: Any, *, seeds: Sequence[int], batch: int | None
) -> Generator[StepEnd, None, Inversion]:
    options = {"steps": params.steps, "eta": params.eta, "exact": params.exact}
    return (yield from invert_native(guided, x0, condition, **options, seeds=seeds, batch=batch))
