"""Noise maps of a given sequence of latents (Huberman-Spiegelglas et al., arXiv 2304.06140, eq. 5).

Any x_T, ..., x_0 is reproduced by z_t = (x_{t-1} - mu_t(x_t)) / sigma_t. After each z_t has been rounded to the
latents' dtype, x_{t-1} is replaced by what a replay will compute from it, so that rounding does not accumulate.
"""

from collections.abc import Generator, Iterator
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.batching import rows_per_call
from sfumato.core.guidance import Guided
from sfumato.core.state import StepEnd, check_finite
from sfumato.core.step import combine, direction, noise_map, predict_x0, sigma, step

Latents: TypeAlias = Float[Tensor, "levels b c h w"]
"""x_T first, x_0 last: one level more than there are steps."""


def extract_noise_maps(
    guided: Guided,
    x: Latents,
    timesteps: list[int],
    condition: Any,
    *,
    eta: float,
    exact: bool = False,
    batch: int | None = None,
) -> Generator[StepEnd, None, tuple[Latents, Float[Tensor, "steps b c h w"]]]:
    """Yield every step as its z_t becomes known; return the corrected latents and all z_t.

    The x_t are given, so no evaluation of the network waits for another: they run in batches over timesteps. A
    batch of another size is rounded differently by the network, which a replay, one step at a time, then meets:
    about 1e-6 in x_0 with trained weights (random ones, whose process does not contract, reach 1e-3). With `exact`
    every x_t is evaluated as the replay will, after its correction, and the replay meets bit-identical latents.

    Args:
        guided: the network under the guidance of the source prompt, one row per image.
        x: the latents x_T ... x_0; not modified.
        timesteps: the run, largest first, one fewer than there are latents.
        condition: the source prompt, one row per image.
        eta: 0 to 1; steps without noise store their residual (see `noise_scale`).
        exact: evaluate one timestep at a time.
        batch: most rows in one call of the network (a guidance pair has two per image); at least one timestep
            is evaluated at a time.

    Raises:
        NonFinite: the network returned NaN or infinity, or a z_t left the range of the latents' dtype.
    """
    x = x.clone()
    z = torch.empty_like(x[1:])
    evaluated = _one_by_one if exact else _batched
    for i, eps in enumerate(evaluated(guided, x, timesteps, condition, batch or rows_per_call(*x.shape[2:]))):
        state = _extract(guided, x, z, timesteps, i, eps, eta, condition)
        yield state
    return x, z


def _one_by_one(guided: Guided, x: Latents, timesteps: list[int], condition: Any, batch: int) -> Iterator[Tensor]:
    """eps of each step on the latent as it stands, i.e. corrected by the step before."""
    for i, t in enumerate(timesteps):
        yield _predict(guided, x[i], t, condition)


def _batched(guided: Guided, x: Latents, timesteps: list[int], condition: Any, batch: int) -> Iterator[Tensor]:
    """eps of each step, several timesteps in one call: row i * b + j is image j at step i."""
    images = x.shape[1]
    together = max(1, batch // (max(map(guided.calls, timesteps)) * images))
    for first in range(0, len(timesteps), together):
        steps = timesteps[first : first + together]
        rows = list(range(images)) * len(steps)
        t = torch.tensor(steps, device=x.device).repeat_interleave(images)
        latents = x[first : first + len(steps)].flatten(0, 1)
        eps = _predict(guided.rows(rows), latents, t, condition[rows])
        yield from eps.unflatten(0, (len(steps), images))


@torch.no_grad()
def _predict(guided: Guided, x: Tensor, t: int | Tensor, condition: Any) -> Tensor:
    return guided.predict(x, t, condition)


@torch.no_grad()
def _extract(
    guided: Guided,
    x: Latents,
    z: Float[Tensor, "steps b c h w"],
    timesteps: list[int],
    i: int,
    eps: Float[Tensor, "b c h w"],
    eta: float,
    condition: Any,
) -> StepEnd:
    """z_t of step i into z[i], and what a replay will make of it into x[i + 1]; x_0 is left as it was given."""
    t, t_prev = timesteps[i], guided.schedule.previous(timesteps)[i]
    check_finite(eps, "the predicted noise", i, len(timesteps), t)
    abar, abar_prev = guided.schedule.abar(t), guided.schedule.abar(t_prev)
    deviation = sigma(abar, abar_prev, eta)
    prediction = predict_x0(x[i], eps, abar)
    mean = combine(prediction, direction(eps, abar_prev, deviation), abar_prev)
    z[i] = noise_map(x[i + 1], mean, deviation).to(z.dtype)
    check_finite(z[i], "the noise map z_t", i, len(timesteps), t)
    x_prev = step(mean, z[i], deviation).to(x.dtype)
    if i + 1 < len(timesteps):
        x[i + 1] = x_prev
    return StepEnd(
        i=i,
        steps=len(timesteps),
        t=t,
        t_prev=t_prev,
        abar=abar,
        abar_prev=abar_prev,
        sigma=deviation,
        x_t=x[i],
        network=guided,
        condition=condition,
        eps=eps,
        x0_prediction=prediction,
        mean=mean,
        z=z[i],
        x_prev=x_prev,
    )
