"""Normalisation of an edited x_t, so that the edit is not amplified (Park et al., arXiv 2302.12469, section 3.4).

A change of x_t is amplified during the remaining steps. The prediction of x_0 after the edit is therefore shifted and
scaled to the mean and standard deviation of the prediction before the edit, which gives x_0'. x_t' follows from the
DDIM equation, to first order:

    x_t' = x_t + g_t (x_0' - x_0(x_t)),   g_t = sqrt(abar_t) / (1 - kappa sqrt(1 - abar_t))
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.step import predict_x0, to_float64
from sfumato.errors import BadInput

KAPPA = 0.99


def gain(abar: float, kappa: float = KAPPA) -> float:
    """Compute the gain g_t = sqrt(abar) / (1 - kappa sqrt(1 - abar)): change of x_t per change of the predicted x_0.

    Differentiating x_t = sqrt(abar) x_0 + sqrt(1 - abar) eps(x_t) with d eps / d x_t ~ kappa gives g_t = dx_t / dx_0.
    At t = T the gain is 5.5 for Stable Diffusion's schedule and 0.63 for the linear schedule.

    Args:
        abar: alpha-bar of the timestep, above 0 and at most 1.
        kappa: assumed derivative of the predicted noise with respect to x_t.

    Raises:
        BadInput: kappa is not in [0, 1), or abar is 0: then the prediction of x_0 does not depend on x_t.
    """
    if not 0 <= kappa < 1:
        raise BadInput(f"kappa must be at least 0 and below 1, not {kappa}.")
    if abar <= 0:
        raise BadInput(
            "The normalisation compares predictions of x_0, which do not depend on x_t at the first timestep of "
            "this model (zero terminal SNR): use a time below 1, or leave the normalisation out."
        )
    return math.sqrt(abar) / (1 - kappa * math.sqrt(1 - abar))


def like(edited: Float[Tensor, "b c h w"], original: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Scale and shift the edited prediction to the mean and standard deviation of the original prediction: x_0'.

    Mean and standard deviation are computed over all channels and positions of each sample.
    """
    mean, deviation = _moments(original)
    edited_mean, edited_deviation = _moments(edited)
    scale = deviation / edited_deviation.clamp_min(torch.finfo(edited.dtype).tiny)
    return (edited - edited_mean) * scale + mean


def normalised(
    predict: Callable[[Tensor], Tensor],
    x: Float[Tensor, "b c h w"],
    edited: Float[Tensor, "b c h w"],
    abar: float,
    kappa: float = KAPPA,
) -> Float[Tensor, "b c h w"]:
    """Normalise an edited x_t; evaluates the network twice.

    Args:
        predict: function that predicts eps from latents at this timestep, including guidance.
        x: x_t before the edit.
        edited: x_t after the edit, x_t + gamma v.
        abar: alpha-bar of the timestep.
        kappa: see `gain`.

    Returns:
        x_t'.
    """
    step = gain(abar, kappa)
    before, after = (predict_x0(each, predict(each), abar) for each in (x, edited))
    return (to_float64(x) + step * (like(after, before) - before)).to(x.dtype)


def _moments(x: Float[Tensor, "b c h w"]) -> tuple[Tensor, Tensor]:
    every = (1, 2, 3)
    return x.mean(dim=every, keepdim=True), x.std(dim=every, keepdim=True, correction=0)
