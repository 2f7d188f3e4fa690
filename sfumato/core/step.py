"""One step of the reverse process and its exact inverse (Song et al., arXiv 2010.02502, eq. 12 and 16).

    x_{t-1} = sqrt(abar_{t-1}) P_t + D_t + sigma_t z_t

    P_t = (x_t - sqrt(1 - abar_t) eps) / sqrt(abar_t)            the prediction of x_0
    D_t = sqrt(1 - abar_{t-1} - sigma_t^2) eps                   the direction pointing to x_t
    sigma_t^2 = eta^2 (1 - abar_{t-1}) / (1 - abar_t) (1 - abar_t / abar_{t-1})

eta = 0 is DDIM, eta = 1 is DDPM with the small fixed variance. P_t and D_t may be computed from different predicted
noises, as Asyrp (arXiv 2210.10960) requires.

Zero terminal SNR (Lin et al., arXiv 2305.08891): where abar_t = 0, x_t is pure noise, D_t is computed from x_t, and eps
does not determine x_0. At such timesteps, eps is replaced by the velocity v = sqrt(abar_t) eps - sqrt(1 - abar_t) x_0
= -x_0, so that P_t = -v without a division. `to_epsilon`, `predict_x0` and `noise_that_leads_to` implement this, and
`noise_in` returns the noise for D_t. Weighted sums of predictions, such as classifier-free guidance, are then sums of
velocities, as in diffusers.

All functions compute in float64 and return float64 (float32 on MPS, which has no float64). The sampling loop rounds
x_{t-1} to the dtype of the latents once. `step(mean, noise_map(x, mean, s), s)` with z stored in float32 is therefore
deterministic, and the replay of an inversion reproduces its latents bit for bit.
"""

import math
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.schedule import PredictionType

Level: TypeAlias = float | Float[Tensor, "b 1 1 1"]
"""abar (alpha-bar), one value for the whole batch or one per row, [b,1,1,1]."""

NEGLIGIBLE = 1e-9
"""Standard deviations up to this value are treated as 0; it is far below the float32 rounding error of latents."""


def to_float64(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Convert to the precision of the step arithmetic: float64, or float32 on MPS, which has no float64."""
    return x.float() if x.device.type == "mps" else x.double()


def _root(level: Level) -> float | Tensor:
    return level.sqrt() if isinstance(level, Tensor) else math.sqrt(max(level, 0.0))


def _with_signal(abar: Level, ordinary: Tensor, silent: Tensor) -> Tensor:
    """`ordinary` in rows with abar > 0, `silent` in rows with abar = 0."""
    if isinstance(abar, Tensor):
        return torch.where(abar > 0, ordinary, silent)
    return ordinary if abar > 0 else silent


def _not_zero(abar: Level) -> Level:
    """abar, with 1 in place of 0: the quotient is discarded there, but an infinite one would give NaN gradients."""
    if isinstance(abar, Tensor):
        return torch.where(abar > 0, abar, 1.0)
    return abar if abar > 0 else 1.0


def to_epsilon(
    output: Float[Tensor, "b c h w"],
    x: Float[Tensor, "b c h w"],
    abar: Level,
    prediction_type: PredictionType,
) -> Float[Tensor, "b c h w"]:
    """Convert the output of a network at x_t to the predicted noise.

    "epsilon":       eps = output
    "v_prediction":  eps = sqrt(abar) v + sqrt(1 - abar) x_t, from v = sqrt(abar) eps - sqrt(1 - abar) x_0
                     (Salimans and Ho, arXiv 2202.00512, section 4)
    "sample":        eps = (x_t - sqrt(abar) x_0) / sqrt(1 - abar)

    Where abar = 0, the velocity v is returned (see the module docstring).
    """
    output, x = to_float64(output), to_float64(x)
    if prediction_type == "epsilon":
        return output
    if prediction_type == "v_prediction":
        return _with_signal(abar, _root(abar) * output + _root(1 - abar) * x, output)
    return noise_that_leads_to(output, x, abar)


def predict_x0(x: Float[Tensor, "b c h w"], eps: Float[Tensor, "b c h w"], abar: Level) -> Float[Tensor, "b c h w"]:
    """The predicted x_0, P_t = (x_t - sqrt(1 - abar_t) eps) / sqrt(abar_t); where abar_t = 0, -v."""
    return _with_signal(
        abar, (to_float64(x) - _root(1 - abar) * to_float64(eps)) / _root(_not_zero(abar)), -to_float64(eps)
    )


def noise_that_leads_to(
    x0: Float[Tensor, "b c h w"], x: Float[Tensor, "b c h w"], abar: Level
) -> Float[Tensor, "b c h w"]:
    """Inverse of `predict_x0` in eps: (x_t - sqrt(abar_t) x_0) / sqrt(1 - abar_t); where abar_t = 0, v = -x_0."""
    return _with_signal(abar, (to_float64(x) - _root(abar) * to_float64(x0)) / _root(1 - abar), -to_float64(x0))


def noise_in(x: Float[Tensor, "b c h w"], eps: Float[Tensor, "b c h w"], abar: Level) -> Float[Tensor, "b c h w"]:
    """The noise in x_t: eps; where abar_t = 0, x_t itself."""
    return _with_signal(abar, to_float64(eps), to_float64(x))


def direction(eps: Float[Tensor, "b c h w"], abar_prev: Level, sigma: float) -> Float[Tensor, "b c h w"]:
    """The direction pointing to x_t, D_t = sqrt(1 - abar_{t-1} - sigma_t^2) eps."""
    return _root(1 - abar_prev - sigma**2) * to_float64(eps)


def sigma(abar: float, abar_prev: float, eta: float) -> float:
    """The standard deviation sigma_t of the noise that a step adds; 0 for a step to abar_prev = 1.

    Values up to `NEGLIGIBLE` are returned as 0, because dividing by them in `noise_map` would overflow float32.
    """
    variance = (1 - abar_prev) / (1 - abar) * (1 - abar / abar_prev)
    deviation = eta * math.sqrt(max(variance, 0.0))
    return deviation if deviation > NEGLIGIBLE else 0.0


def combine(
    prediction: Float[Tensor, "b c h w"], towards: Float[Tensor, "b c h w"], abar_prev: Level
) -> Float[Tensor, "b c h w"]:
    """The mean of x_{t-1}: mu_t = sqrt(abar_{t-1}) P_t + D_t."""
    return _root(abar_prev) * prediction + towards


def mean(
    x: Float[Tensor, "b c h w"],
    eps_prediction: Float[Tensor, "b c h w"],
    eps_direction: Float[Tensor, "b c h w"],
    abar: float,
    abar_prev: float,
    sigma: float,
) -> Float[Tensor, "b c h w"]:
    """The mean mu_t(x_t) of x_{t-1}, with separate predicted noises for P_t and D_t."""
    towards = direction(noise_in(x, eps_direction, abar), abar_prev, sigma)
    return combine(predict_x0(x, eps_prediction, abar), towards, abar_prev)


def noise_scale(sigma: float) -> float:
    """Factor of the noise map in a step: sigma_t, or 1 for a step with sigma_t = 0.

    The equation of a step with sigma_t = 0 (eta = 0, or the last step if abar_{t-1} = 1) cannot be solved for z_t. The
    noise map of such a step is the residual x_{t-1} - mu_t instead, so that a replay of all steps reproduces x_0.
    """
    return sigma if sigma > 0 else 1.0


def step(mean: Float[Tensor, "b c h w"], z: Float[Tensor, "b c h w"] | None, sigma: float) -> Float[Tensor, "b c h w"]:
    """One step: x_{t-1} = mu_t + sigma_t z_t, with `noise_scale(sigma)` for sigma_t; mu_t if z is None."""
    return mean if z is None else mean + noise_scale(sigma) * to_float64(z)


def noise_map(
    x_prev: Float[Tensor, "b c h w"], mean: Float[Tensor, "b c h w"], sigma: float
) -> Float[Tensor, "b c h w"]:
    """The noise map z_t = (x_{t-1} - mu_t) / sigma_t, the inverse of `step` (arXiv 2304.06140, eq. 5)."""
    return (to_float64(x_prev) - mean) / noise_scale(sigma)


def diffuse(x0: Float[Tensor, "b c h w"], noise: Float[Tensor, "b c h w"], abar: Level) -> Float[Tensor, "b c h w"]:
    """Add noise e to a clean latent: x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) e."""
    return _root(abar) * to_float64(x0) + _root(1 - abar) * to_float64(noise)


def add_noise_between(
    x: Float[Tensor, "b c h w"], noise: Float[Tensor, "b c h w"], abar: Level, abar_above: Level
) -> Float[Tensor, "b c h w"]:
    """Sample q(x_s | x_t) for s > t: x_s = sqrt(abar_s / abar_t) x_t + sqrt(1 - abar_s / abar_t) e."""
    return diffuse(x, noise, abar_above / abar)


def per_row(levels: list[float], like: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1 1 1"]:
    """abar of every row as a tensor [b,1,1,1], which the functions above accept as `abar`."""
    rows = torch.tensor(levels, dtype=torch.float64).reshape(-1, 1, 1, 1)
    return to_float64(rows.float() if like.device.type == "mps" else rows).to(like.device)
