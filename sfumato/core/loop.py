"""The one sampling loop. Generating, editing and replaying are this generator with other noise maps and shifts.

It yields after every step: progress, previews, cancelling and video are the caller's `for` loop.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.noise import gaussian_batch
from sfumato.core.shift import Shift
from sfumato.core.state import Denoiser, StepState, check_finite
from sfumato.core.step import combine, direction, predict_x0, sigma, step

NoiseMaps: TypeAlias = Callable[[StepState], Tensor | None]
"""Gives the z_t [b,c,h,w] of a step, or None where nothing is added."""


def reverse(
    network: Denoiser,
    x: Float[Tensor, "b c h w"],
    timesteps: Sequence[int],
    condition: Any,
    *,
    eta: float,
    noise_maps: NoiseMaps,
    shifts: Sequence[Shift] = (),
) -> Iterator[StepState]:
    """Run the reverse process from x at timesteps[0] to x_0, yielding every finished step.

    Args:
        network: predicts the noise; guidance is a network around a network.
        x: the latent at the level of timesteps[0]; its dtype is the dtype of every x_{t-1}.
        timesteps: largest first, a run of `Schedule.timesteps` or the end of one.
        condition: handed to the network at every step.
        eta: 0 (DDIM) to 1 (DDPM).
        noise_maps: gives z_t; `fresh_noise` to sample, `recorded` to replay.
        shifts: what moves the handles, in order.

    Raises:
        NonFinite: the predicted noise or the new latent holds NaN or infinity.
    """
    schedule = network.schedule
    below = schedule.previous(timesteps)
    for i, (t, t_prev) in enumerate(zip(timesteps, below, strict=True)):
        abar, abar_prev = schedule.abar(t), schedule.abar(t_prev)
        state = StepState(i, len(timesteps), t, t_prev, abar, abar_prev, sigma(abar, abar_prev, eta), x, condition)
        state = _advance(network, state, noise_maps, shifts)
        yield state
        assert state.x_prev is not None
        x = state.x_prev


@torch.no_grad()
def _advance(network: Denoiser, state: StepState, noise_maps: NoiseMaps, shifts: Sequence[Shift]) -> StepState:
    """One step: every quantity of the step in turn, each followed by the shifts of its handle."""
    state = _moved(state, shifts, "condition", "condition", state.condition)
    state = _moved(state, shifts, "latent", "x_t", state.x_t)
    state = replace(state, taps=tuple(tap for s in shifts if (tap := s.taps(state)) is not None))

    eps = network.predict(state.x_t, state.t, state.condition, state.taps or None)
    check_finite(eps, "the predicted noise", state.i, state.steps, state.t)
    state = _moved(state, shifts, "noise", "eps", eps)
    assert state.eps is not None
    state = _moved(state, shifts, "prediction", "x0_prediction", predict_x0(state.x_t, state.eps, state.abar))
    assert state.x0_prediction is not None
    towards = direction(state.eps, state.abar_prev, state.sigma)
    state = replace(state, mean=combine(state.x0_prediction, towards, state.abar_prev))
    state = _moved(state, shifts, "noise_map", "z", noise_maps(state))

    assert state.mean is not None
    x_prev = step(state.mean, state.z, state.sigma).to(state.x_t.dtype)
    check_finite(x_prev, "the latent x_{t-1}", state.i, state.steps, state.t)
    return replace(state, x_prev=x_prev)


def _moved(state: StepState, shifts: Sequence[Shift], handle: str, field: str, value: Any) -> StepState:
    """Set a field of the state and let every shift move it in turn."""
    state = replace(state, **{field: value})
    for shift in shifts:
        state = replace(state, **{field: getattr(shift, handle)(state, getattr(state, field))})
    return state


def fresh_noise(seeds: Sequence[int], images: Sequence[int] | None = None) -> NoiseMaps:
    """Standard normal z_t, a function of (seed, image, t); nothing on a step without noise."""

    def draw(state: StepState) -> Tensor | None:
        if state.sigma == 0:
            return None
        shape = state.x_t.shape[1:]
        return gaussian_batch(shape, seeds, images, state.t, tag="reverse", device=state.x_t.device)

    return draw


def recorded(z: Float[Tensor, "steps b c h w"] | None) -> NoiseMaps:
    """The z_t of an inversion, the first row for the first step of the run; None for a deterministic inversion."""

    def replay(state: StepState) -> Tensor | None:
        return None if z is None else z[state.i].to(state.x_t.device)

    return replay
