"""The inversion of pix2pix-zero's public code, for comparison with the paper's (`sfumato.inversion.regularised`).

The code (github.com/pix2pixzero/pix2pix-zero, 16e5c1d of October 2024) differs from a DDIM inversion of the run:

    for t in t_{N-2}, ..., t_1, of the N timesteps t_0 > ... > t_{N-1} of the run:
        eps = regularised eps(x, t, c),      P = (x - sqrt(1 - abar_{t-1}) eps) / sqrt(abar_{t-1})
        x <- sqrt(abar_{t'-1}) P + sqrt(1 - abar_{t'-1}) eps,      t' the timestep before t, the noisier one

It makes N - 2 steps and evaluates the network at the less noisy timestep of each. x_0 is treated as a latent at the
noise level one stride above (timestep 20 of 1000 for 50 steps), and the last x is used as x_T. The regularisation has
neither a limit of the step length nor a factor in the pyramid. The reference attention maps are those of a
reconstruction by N steps of DDIM from this x_T; the `Inversion` contains the latents of the reconstruction.

Two differences from the public code remain. The code samples x_0 from the posterior of the autoencoder, and this
implementation uses its mean. The code reconstructs with guidance by the negative prompt; for real images that is the
source prompt, so that the guidance cancels. Here the reconstruction is conditioned on the source prompt only.
"""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.condition import Condition
from sfumato.core.guidance import Guided
from sfumato.core.loop import recorded, reverse
from sfumato.core.state import StepEnd, check_finite
from sfumato.core.step import diffuse, predict_x0, to_float64
from sfumato.inversion.artifact import Inversion
from sfumato.inversion.registry import inversion
from sfumato.inversion.regularised import OFFICIAL, Regularised, invert_regularised

FEWEST = 3
"""Minimum number of steps of the run, as the inversion omits two of them."""


def invert_as_published(
    guided: Guided, x0: Float[Tensor, "b c h w"], condition: Condition, *, steps: int, seeds: Sequence[int]
) -> Generator[StepEnd, None, Inversion]:
    """Invert as the public code: yield every step of the inversion and of the reconstruction, return the `Inversion`.

    Args:
        guided: the network with the guidance of the source prompt, one row per image.
        x0: clean latents.
        condition: condition of the source prompt, one row per image.
        steps: N, number of steps of the run, at least `FEWEST`; the network is evaluated 2 N - 2 times.
        seeds: one per image, for the random shifts of the autocorrelation.

    Returns:
        The latents of the reconstruction, with the given x_0 at the end.

    Raises:
        NonFinite: the network returned NaN or infinity, or the regularisation diverged.
    """
    timesteps, every = guided.schedule.timesteps(steps), 2 * steps - 2
    network = Regularised(guided.network, guided.terms, tuple(seeds), OFFICIAL)
    x = to_float64(x0)
    for i in reversed(range(1, steps - 1)):
        state = _inversion_step(network, x, condition, steps - 2 - i, every, timesteps[i - 1], timesteps[i])
        x = state.x_t
        yield state
    levels = []
    for state in _reconstruction(guided, x, timesteps, condition):
        levels.append(state.x_t)
        yield replace(state, i=steps - 2 + state.i, steps=every)
    latents = torch.stack([*levels, to_float64(x0)])
    return Inversion("regularised", latents, None, tuple(timesteps), 0.0, guided.guidance_scale, tuple(seeds))


def _reconstruction(guided: Guided, x: Tensor, timesteps: Sequence[int], condition: Condition) -> Iterator[StepEnd]:
    """DDIM from x_T."""
    return reverse(guided, x, timesteps, condition, eta=0.0, noise_maps=recorded(None))


@torch.no_grad()
def _inversion_step(
    network: Guided, x: Tensor, condition: Condition, i: int, steps: int, above: int, t: int
) -> StepEnd:
    """The step of the public code's scheduler from the noise level of t - 1 to that of `above` - 1."""
    abar_prev, abar = (network.schedule.abar(each - 1) for each in (t, above))
    eps = network.predict(x, t, condition)
    check_finite(eps, "the regularised noise", i, steps, t)
    prediction = predict_x0(x, eps, abar_prev)
    return StepEnd(
        i=i, steps=steps, t=t, t_prev=t - 1, abar=abar, abar_prev=abar_prev, sigma=0.0,
        x_t=diffuse(prediction, eps, abar), network=network, condition=condition, eps=eps,
        x0_prediction=prediction, mean=x, z=None, x_prev=x,
    )  # fmt: skip


@inversion("regularised", summary="DDIM inversion with regularised, whiter noise (pix2pix-zero)", deterministic=True)
def _by_name(
    guided: Guided, x0: Tensor, condition: Condition, params: Any, *, seeds: Sequence[int], batch: int | None
) -> Generator[StepEnd, None, Inversion]:
    """The inversion of the paper, or that of the public code for methods with the option `compat`."""
    if getattr(params, "compat", "") == "official":
        return (yield from invert_as_published(guided, x0, condition, steps=params.steps, seeds=seeds))
    return (yield from invert_regularised(guided, x0, condition, steps=params.steps, exact=params.exact, seeds=seeds))
