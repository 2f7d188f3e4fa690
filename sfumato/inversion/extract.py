"""Noise maps of a given sequence of latents (Huberman-Spiegelglas et al., arXiv 2304.06140, eq. 5).

    z_t = (x_{t-1} - mu_t(x_t)) / sigma_t,        mu_t(x_t) = sqrt(abar_{t-1}) P_t + D_t
    x_{t-1} <- mu_t(x_t) + sigma_t round(z_t)     with z_t rounded to the dtype of the latents

With the noise maps of the first equation, the reverse process reproduces any given sequence x_T, ..., x_0. The second
equation replaces x_{t-1} by the value that a replay computes from the rounded z_t, so that rounding errors do not
accumulate.
"""

from collections.abc import Generator, Iterator
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.batching import rows_per_call
from sfumato.core.condition import Condition
from sfumato.core.guidance import Guided
from sfumato.core.state import StepEnd, check_finite
from sfumato.core.step import combine, direction, noise_in, noise_map, predict_x0, sigma, step

Latents: TypeAlias = Float[Tensor, "levels b c h w"]
"""steps + 1 latents, from x_T (first) to x_0 (last)."""


def extract_noise_maps(
    guided: Guided,
    x: Latents,
    timesteps: list[int],
    condition: Condition,
    *,
    eta: float,
    exact: bool = False,
    batch: int | None = None,
) -> Generator[StepEnd, None, tuple[Latents, Float[Tensor, "steps b c h w"]]]:
    """Extract the noise maps: yield every step once its z_t is computed; return the corrected latents and all z_t.

    All x_t are known in advance. Their evaluations are therefore independent and are batched over timesteps. A replay
    evaluates one step at a time, and rounding errors of the network depend on the batch size: the error in the
    replayed x_0 is about 1e-6 with trained weights, and up to 1e-3 with random weights, for which errors grow during
    the run. With `exact`, every x_t is evaluated after its correction and with the batch size of the replay, which
    then reproduces the latents bit for bit.

    Args:
        guided: the network with the guidance of the source prompt, one row per image.
        x: the latents x_T, ..., x_0; not modified.
        timesteps: timesteps of the run in descending order, one fewer than there are latents.
        condition: condition of the source prompt, one row per image.
        eta: 0 (DDIM) to 1 (DDPM); the z_t of a step with sigma_t = 0 is its residual (see `noise_scale`).
        exact: evaluate one timestep at a time.
        batch: maximum number of rows per forward pass (classifier-free guidance needs two per image), but at least the
            rows of one timestep; None for the default, see `rows_per_call`.

    Raises:
        NonFinite: the network returned NaN or infinity, or a z_t overflowed the dtype of the latents.
    """
    x = x.clone()
    z = torch.empty_like(x[1:])
    evaluated = _one_by_one if exact else _batched
    for i, eps in enumerate(evaluated(guided, x, timesteps, condition, batch or rows_per_call(*x.shape[2:]))):
        state = _extract(guided, x, z, timesteps, i, eps, eta, condition)
        yield state
    return x, z


def _one_by_one(guided: Guided, x: Latents, timesteps: list[int], condition: Condition, batch: int) -> Iterator[Tensor]:
    """eps of each step, evaluated on x_t as corrected by the previous step."""
    for i, t in enumerate(timesteps):
        yield _predict(guided, x[i], t, condition)


def _batched(guided: Guided, x: Latents, timesteps: list[int], condition: Condition, batch: int) -> Iterator[Tensor]:
    """eps of each step, with several timesteps per forward pass: row i * b + j is image j at step i."""
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
def _predict(guided: Guided, x: Tensor, t: int | Tensor, condition: Condition) -> Tensor:
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
    condition: Condition,
) -> StepEnd:
    """Write z_t of step i to z[i], and the x_{t-1} that a replay computes to x[i + 1] unless that is x_0."""
    t, t_prev = timesteps[i], guided.schedule.previous(timesteps)[i]
    check_finite(eps, "the predicted noise", i, len(timesteps), t)
    abar, abar_prev = guided.schedule.abar(t), guided.schedule.abar(t_prev)
    deviation = sigma(abar, abar_prev, eta)
    # mu_t = sqrt(abar_{t-1}) P_t + D_t, then z_t = (x_{t-1} - mu_t) / sigma_t
    prediction = predict_x0(x[i], eps, abar)
    mean = combine(prediction, direction(noise_in(x[i], eps, abar), abar_prev, deviation), abar_prev)
    z[i] = noise_map(x[i + 1], mean, deviation).to(z.dtype)
    check_finite(z[i], "the noise map z_t", i, len(timesteps), t)
    x_prev = step(mean, z[i], deviation).to(x.dtype)  # mu_t + sigma_t z_t with the rounded z_t, as in a replay
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
