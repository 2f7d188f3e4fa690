"""Reimplementation of the loop of Asyrp's public code (kwonminki/Asyrp_official), see `benchmarks/loops.py`.

    inversion    DDIM inversion, and a run from its x_T back to x_0, whose result is stored and not used by the edit
    edit         in every step the encoder half once and the decoder half twice: with and without delta-h

Below t_edit, where no delta-h is added, the decoder half is also evaluated twice. Differences from the authors' code:
their inversion begins with the second noise level and has one step less; their network has no prompt, here it is
conditioned on the source prompt.
"""

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from benchmarks.loops import Loop, Scene, invert_ddim
from papers.ddpm_noise_space.official import SequentialInversion
from sfumato.core.noise import gaussian_batch
from sfumato.core.state import Denoiser
from sfumato.core.step import mean, sigma
from sfumato.models.encoder_half import MIDDLE, EncoderHalf
from sfumato.models.taps import Replace
from sfumato.shifts.asyrp import moved
from sfumato.shifts.delta_h import DeltaH


def asyrp(delta: DeltaH) -> Loop[SequentialInversion]:
    """The loop that edits with a delta-h; its numbers of steps in training and in the edit are equal."""
    return Loop(invert_and_reconstruct, partial(edit, delta=delta))


@torch.no_grad()
def invert_and_reconstruct(scene: Scene, x0: Tensor) -> SequentialInversion:
    """DDIM inversion and reconstruction: one row in every step of both."""
    inversion = invert_ddim(scene, x0)
    x = inversion.x[0]
    for t, abar, abar_prev in _steps(scene, inversion):
        eps = scene.network.predict(x, t, scene.source)
        x = mean(x, eps, eps, abar, abar_prev, 0.0).to(x0.dtype)
    return inversion


@torch.no_grad()
def edit(scene: Scene, inversion: SequentialInversion, *, delta: DeltaH) -> Tensor:
    """The asymmetric reverse process from x_T, with fresh noise (eta = 1) below t_boost."""
    x = inversion.x[0]
    for t, abar, abar_prev in _steps(scene, inversion):
        eps, changed = both_noises(scene, x, t, delta)
        deviation = sigma(abar, abar_prev, float(t < delta.t_boost))
        noise = gaussian_batch(x.shape[1:], [scene.seed], step=t, tag="boost", device=x.device)
        x = (mean(x, changed, eps, abar, abar_prev, deviation) + deviation * noise).to(x.dtype)
    return x


def both_noises(scene: Scene, x: Tensor, t: int, delta: DeltaH) -> tuple[Tensor, Tensor]:
    """The predicted noise, and that with delta-h added to h; the second evaluates the decoder half only."""
    network: Denoiser = scene.network
    half, acting = EncoderHalf(), [(delta, 1.0)] if t >= delta.t_edit else []
    eps = network.predict(x, t, scene.source, [half])
    return eps, network.predict(x, t, scene.source, [half, Replace(MIDDLE, lambda h: moved(h, t, acting))])


def _steps(scene: Scene, inversion: SequentialInversion) -> Iterator[tuple[int, float, float]]:
    """t, abar_t and abar_{t-1} of every step."""
    schedule = scene.network.schedule
    for t, t_prev in zip(inversion.timesteps, schedule.previous(inversion.timesteps), strict=True):
        yield t, schedule.abar(t), schedule.abar(t_prev)
