"""One step of the reverse process and its exact inverse (Song et al., arXiv 2010.02502, eq. 12 and 16).

    x_{t-1} = sqrt(abar_{t-1}) P_t + D_t + sigma_t z_t

    P_t = (x_t - sqrt(1 - abar_t) eps) / sqrt(abar_t)            the prediction of x_0
    D_t = sqrt(1 - abar_{t-1} - sigma_t^2) eps                   the direction pointing to x_t
    sigma_t^2 = eta^2 (1 - abar_{t-1}) / (1 - abar_t) (1 - abar_t / abar_{t-1})

eta = 0 is DDIM, eta = 1 is DDPM with the small fixed variance. P and D take their noise separately, because
Asyrp (arXiv 2210.10960) needs different ones.

All functions compute in float64 and return float64 (float32 on devices that have none). The loop rounds x_{t-1}
once, to the latent's dtype: then `step(mean, noise_map(x, mean, s), s)` with z kept in float32 is the same number
whenever it is computed, which is what lets a replayed inversion meet bit-identical latents.
"""

import math
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.schedule import PredictionType

Level: TypeAlias = float | Float[Tensor, "b 1 1 1"]
"""abar of one level for the whole batch, or of one level per row."""

NEGLIGIBLE = 1e-9
"""A standard deviation far below the rounding of a float32 latent of unit variance."""


def wide(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The same numbers in the precision of the step's arithmetic: float64, or float32 where there is none (MPS)."""
    return x.float() if x.device.type == "mps" else x.double()


def _root(level: Level) -> float | Tensor:
    return level.sqrt() if isinstance(level, Tensor) else math.sqrt(max(level, 0.0))


def to_epsilon(
    output: Float[Tensor, "b c h w"],
    x: Float[Tensor, "b c h w"],
    abar: Level,
    prediction_type: PredictionType,
) -> Float[Tensor, "b c h w"]:
    """The noise that a network's output stands for.

    v = sqrt(abar) eps - sqrt(1 - abar) x_0 (Salimans and Ho, arXiv 2202.00512, section 4).
    """
    output, x = wide(output), wide(x)
    if prediction_type == "epsilon":
        return output
    if prediction_type == "v_prediction":
        return _root(abar) * output + _root(1 - abar) * x
    return noise_that_leads_to(output, x, abar)


def predict_x0(x: Float[Tensor, "b c h w"], eps: Float[Tensor, "b c h w"], abar: Level) -> Float[Tensor, "b c h w"]:
    """P_t: the clean latent that x_t and its noise imply."""
    return (wide(x) - _root(1 - abar) * wide(eps)) / _root(abar)


def noise_that_leads_to(
    x0: Float[Tensor, "b c h w"], x: Float[Tensor, "b c h w"], abar: Level
) -> Float[Tensor, "b c h w"]:
    """eps for which `predict_x0` of x_t is x_0."""
    return (wide(x) - _root(abar) * wide(x0)) / _root(1 - abar)


def direction(eps: Float[Tensor, "b c h w"], abar_prev: Level, sigma: float) -> Float[Tensor, "b c h w"]:
    """D_t: what of the noise stays in x_{t-1}."""
    return _root(1 - abar_prev - sigma**2) * wide(eps)


def sigma(abar: float, abar_prev: float, eta: float) -> float:
    """sigma_t, the standard deviation of the noise that a step adds; 0 on a step to abar_prev = 1.

    Less than `NEGLIGIBLE` is 0: dividing by it would leave float32's range in `noise_map`.
    """
    variance = (1 - abar_prev) / (1 - abar) * (1 - abar / abar_prev)
    deviation = eta * math.sqrt(max(variance, 0.0))
    return deviation if deviation > NEGLIGIBLE else 0.0


def combine(
    prediction: Float[Tensor, "b c h w"], towards: Float[Tensor, "b c h w"], abar_prev: Level
) -> Float[Tensor, "b c h w"]:
    """mu_t from its two parts: sqrt(abar_{t-1}) P_t + D_t."""
    return _root(abar_prev) * prediction + towards


def mean(
    x: Float[Tensor, "b c h w"],
    eps_prediction: Float[Tensor, "b c h w"],
    eps_direction: Float[Tensor, "b c h w"],
    abar: float,
    abar_prev: float,
    sigma: float,
) -> Float[Tensor, "b c h w"]:
    """mu_t(x_t): where a step lands without its noise."""
    return combine(predict_x0(x, eps_prediction, abar), direction(eps_direction, abar_prev, sigma), abar_prev)


def noise_scale(sigma: float) -> float:
    """What a noise map is multiplied by: sigma_t, and 1 on a step that adds no noise.

    A step with sigma_t = 0 (eta = 0, or the last step where abar_{t-1} = 1) is no longer invertible in z. Its map is
    then the plain residual x_{t-1} - mu_t, so that all steps together still reproduce x_0.
    """
    return sigma if sigma > 0 else 1.0


def step(mean: Float[Tensor, "b c h w"], z: Float[Tensor, "b c h w"] | None, sigma: float) -> Float[Tensor, "b c h w"]:
    """x_{t-1} from the mean and the noise map; no map means no noise."""
    return mean if z is None else mean + noise_scale(sigma) * wide(z)


def noise_map(
    x_prev: Float[Tensor, "b c h w"], mean: Float[Tensor, "b c h w"], sigma: float
) -> Float[Tensor, "b c h w"]:
    """z_t, the inverse of `step` (Huberman-Spiegelglas et al., arXiv 2304.06140, eq. 5)."""
    return (wide(x_prev) - mean) / noise_scale(sigma)


def diffuse(x0: Float[Tensor, "b c h w"], noise: Float[Tensor, "b c h w"], abar: Level) -> Float[Tensor, "b c h w"]:
    """x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) e: a clean latent brought to level t."""
    return _root(abar) * wide(x0) + _root(1 - abar) * wide(noise)


def ascend(
    x: Float[Tensor, "b c h w"], noise: Float[Tensor, "b c h w"], abar: Level, abar_above: Level
) -> Float[Tensor, "b c h w"]:
    """q(x_s | x_t) for a level s above t: a latent diffused further, sqrt(abar_s / abar_t) x_t + sqrt(1 - ...) e."""
    return diffuse(x, noise, abar_above / abar)


def per_row(levels: list[float], like: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1 1 1"]:
    """One abar per row, as a tensor that the functions above take for `abar`."""
    rows = torch.tensor(levels, dtype=torch.float64).reshape(-1, 1, 1, 1)
    return wide(rows.float() if like.device.type == "mps" else rows).to(like.device)
