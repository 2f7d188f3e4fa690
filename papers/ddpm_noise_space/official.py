"""A reimplementation of the algorithm in the authors' published code, for comparison.

It differs from the paper and from `sfumato.inversion` in these points: the arithmetic is the network's (float32); the
noise of the direction term is eta * variance, not eta^2 * variance; the guidance pair is two calls of the network with
one row each, one timestep after the other; and the noise map of the last step is set to zero, so that the last step of
a replay ends at its mean and x_0 is not reproduced. The authors' code supports eps-prediction only; here the output of
the network is converted to eps first.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sfumato.core.noise import gaussian
from sfumato.core.state import Denoiser


@dataclass(frozen=True, eq=False)
class Guidance:
    """eps = eps(negative) + s (eps(condition) - eps(negative)), with one call of one row for each prediction."""

    network: Denoiser
    condition: Any
    negative: Any
    guidance_scale: float

    def predict(self, x: Tensor, t: int) -> Tensor:
        """The guided noise for x [1,c,h,w]."""
        negative = self.network.predict(x, t, self.negative)
        return negative + self.guidance_scale * (self.network.predict(x, t, self.condition) - negative)


@dataclass(frozen=True, eq=False)
class SequentialInversion:
    """Latents x and noise maps z, both [steps, 1, c, h, w]: step i starts at x[i] and adds z[i]; x[0] = x_T."""

    x: Tensor
    z: Tensor
    timesteps: list[int]
    eta: float


@torch.no_grad()
def invert(guidance: Guidance, x0: Tensor, *, steps: int, eta: float = 1.0, seed: int = 0) -> SequentialInversion:
    """Draw x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) e_t with independent e_t, then compute z_t; x0 is [1,c,h,w]."""
    schedule = guidance.network.schedule
    timesteps = schedule.timesteps(steps)
    x = torch.stack([*(_noised(x0, schedule.abar(t), seed, t) for t in timesteps), x0])
    z = torch.zeros_like(x[:-1])
    for i, (t, t_prev) in enumerate(zip(timesteps, schedule.previous(timesteps), strict=True)):
        mean, deviation = _mean(x[i], guidance.predict(x[i], t), schedule.abar(t), schedule.abar(t_prev), eta)
        if i + 1 < steps:
            z[i] = (x[i + 1] - mean) / deviation
            x[i + 1] = mean + deviation * z[i]
    return SequentialInversion(x[:-1], z, timesteps, eta)


@torch.no_grad()
def replay(guidance: Guidance, inversion: SequentialInversion, *, skip: int = 0) -> Iterator[Tensor]:
    """Yield x_{t-1} of every step from T - skip down to x_0."""
    schedule = guidance.network.schedule
    below = schedule.previous(inversion.timesteps)
    x = inversion.x[skip]
    for i in range(skip, len(inversion.timesteps)):
        t = inversion.timesteps[i]
        levels = schedule.abar(t), schedule.abar(below[i])
        mean, deviation = _mean(x, guidance.predict(x, t), *levels, inversion.eta)
        x = mean + deviation * inversion.z[i]
        yield x


def _noised(x0: Tensor, abar: float, seed: int, t: int) -> Tensor:
    noise = gaussian(x0.shape[1:], seed, step=t, tag="edit-friendly", device=x0.device)[None]
    return abar**0.5 * x0 + (1 - abar) ** 0.5 * noise


def _mean(x: Tensor, eps: Tensor, abar: float, abar_prev: float, eta: float) -> tuple[Tensor, float]:
    """mu_t and the standard deviation of the step."""
    variance = (1 - abar_prev) / (1 - abar) * (1 - abar / abar_prev)
    prediction = (x - (1 - abar) ** 0.5 * eps) / abar**0.5
    towards = max(1 - abar_prev - eta * variance, 0.0) ** 0.5 * eps
    return abar_prev**0.5 * prediction + towards, eta * variance**0.5
