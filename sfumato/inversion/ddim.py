"""DDIM inversion: the deterministic DDIM process in reverse order (Song et al., arXiv 2010.02502, section 4.3).

    x_t = sqrt(abar_t) P + sqrt(1 - abar_t) eps
    P = (x_{t-1} - sqrt(1 - abar_{t-1}) eps) / sqrt(abar_{t-1}),      eps = eps(x_{t-1}, t)

Every step of the run is inverted, including the last one, at the timestep at which the replay evaluates the network.
The only approximation is eps(x_{t-1}, t) in place of eps(x_t, t); its error is of first order in the step size.
`refine` reduces it by fixed-point iteration: x_t is a fixed point of x -> sqrt(abar_t) P(eps(x, t)) + sqrt(1 - abar_t)
eps(x, t) (Pan et al., arXiv 2309.04907, eq. 9, without their acceleration).

Where abar_t = 0 (zero terminal SNR), P is predicted at x_{t-1} or, with `refine`, at x_t. x_t is then the noise of
x_{t-1} for this P: x_t = (x_{t-1} - sqrt(abar_{t-1}) P) / sqrt(1 - abar_{t-1}).
"""

from collections.abc import Generator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.condition import Condition
from sfumato.core.guidance import Guided
from sfumato.core.state import StepEnd, check_finite
from sfumato.core.step import diffuse, noise_that_leads_to, predict_x0, to_float64
from sfumato.errors import BadInput
from sfumato.inversion.artifact import Inversion
from sfumato.inversion.registry import inversion


def invert_ddim(
    guided: Guided,
    x0: Float[Tensor, "b c h w"],
    condition: Condition,
    *,
    steps: int,
    refine: int = 0,
    seeds: Sequence[int] = (),
) -> Generator[StepEnd, None, Inversion]:
    """Invert images with DDIM: yield every step, from x_0 upwards, and return the `Inversion` without noise maps.

    Args:
        guided: the network with the guidance of the source prompt, one row per image.
        x0: clean latents; all latents of the run are stored in float64.
        condition: condition of the source prompt, one row per image.
        steps: number of steps of the run.
        refine: number of fixed-point iterations per step; each one requires an additional network evaluation.
        seeds: stored in the `Inversion`; no noise is drawn.

    Raises:
        BadInput: steps is out of range; or there is a single step, from a timestep with abar = 0, so that x_0 does not
            depend on x_T.
        NonFinite: the network returned NaN or infinity.
    """
    timesteps = guided.schedule.timesteps(steps)
    below = guided.schedule.previous(timesteps)
    if steps == 1 and guided.schedule.abar(timesteps[0]) <= 0:
        raise BadInput("A run of one step from abar = 0 (zero terminal SNR) cannot be inverted: use more steps.")
    levels = [to_float64(x0)]  # float64: a rounding error at T grows by 1 / sqrt(abar_T), 150 for the linear schedule
    for i in reversed(range(steps)):
        state = _inversion_step(guided, levels[0], condition, i, steps, timesteps[i], below[i], refine)
        levels.insert(0, state.x_t)
        yield state
    x = torch.stack(levels)
    return Inversion("ddim", x, None, tuple(timesteps), 0.0, guided.guidance_scale, tuple(seeds))


@torch.no_grad()
def _inversion_step(
    guided: Guided,
    x_prev: Float[Tensor, "b c h w"],
    condition: Condition,
    i: int,
    steps: int,
    t: int,
    t_prev: int,
    refine: int,
) -> StepEnd:
    """The step from x_{t-1} to x_t, with 1 + `refine` evaluations."""
    abar, abar_prev = guided.schedule.abar(t), guided.schedule.abar(t_prev)
    x = x_prev
    for _ in range(1 + refine):
        eps = guided.predict(x, t, condition)
        check_finite(eps, "the predicted noise", i, steps, t)
        prediction = predict_x0(x_prev, eps, abar_prev) if abar > 0 else predict_x0(x, eps, abar)
        noise = eps if abar > 0 else noise_that_leads_to(prediction, x_prev, abar_prev)
        x = diffuse(prediction, noise, abar).to(x_prev.dtype)
    return StepEnd(
        i=i,
        steps=steps,
        t=t,
        t_prev=t_prev,
        abar=abar,
        abar_prev=abar_prev,
        sigma=0.0,
        x_t=x,
        network=guided,
        condition=condition,
        eps=eps,
        x0_prediction=prediction,
        mean=x_prev,
        z=None,
        x_prev=x_prev,
    )


@inversion("ddim", summary="DDIM inversion: deterministic, approximate", deterministic=True)
def _by_name(
    guided: Guided, x0: Tensor, condition: Condition, params: Any, *, seeds: Sequence[int], batch: int | None
) -> Generator[StepEnd, None, Inversion]:
    return (yield from invert_ddim(guided, x0, condition, steps=params.steps, refine=params.refine, seeds=seeds))
