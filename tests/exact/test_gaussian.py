"""The sampler on data whose best denoiser is known in closed form.

For data N(mu, s^2) the best noise prediction is
eps*(x, t) = sqrt(1 - abar) (x - sqrt(abar) mu) / (abar s^2 + 1 - abar), linear in x: so is every sampler, and its
mean and variance follow from the responses to x_T and to every z_t, without drawing anything.
"""

import numpy as np
import pytest
import torch

from sfumato.core.condition import Condition
from sfumato.core.loop import reverse
from tests.exact.toy import linear_schedule, stable_diffusion_schedule

MU, S = 0.8, 0.5


class Best:
    def __init__(self, schedule, mu=MU, s=S):
        self.schedule, self.mu, self.s = schedule, mu, s

    def predict(self, x, t, cond=None, taps=None):
        abar = self.schedule.abar(t)
        return (1 - abar) ** 0.5 * (x - abar**0.5 * self.mu) / (abar * self.s**2 + 1 - abar)


def responses(network, steps, eta):
    """(offset, gains) of x after every step: row 0 starts at x_T = 1, row k has z = 1 at step k - 1."""
    schedule = network.schedule
    timesteps = schedule.timesteps(steps)
    impulses = torch.eye(steps + 2, dtype=torch.float64)[:, :, None, None, None]
    x = impulses[0].clone()  # row 0: x_T = 1; rows 1..steps: impulses; the last row: zero
    run = reverse(
        network,
        x,
        timesteps,
        Condition(rows=len(x)),
        eta=eta,
        noise_maps=lambda state: impulses[state.i + 1] if state.sigma > 0 else None,
    )
    for state in run:
        final = state.x_prev.flatten()
        yield state, float(final[-1]), (final[:-1] - final[-1]).numpy()


@pytest.mark.parametrize("schedule", [stable_diffusion_schedule(), linear_schedule()])
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_mean_and_variance_at_every_level_for_a_point(schedule, eta):
    """Data in one point: P_t is the point, and what is left at level t has variance 1 - abar_t, for any eta."""
    point = Best(schedule, s=0.0)
    for state, offset, gains in responses(point, 40, eta):
        level = schedule.abar(state.t_prev)
        start = schedule.abar(schedule.timesteps(40)[0])
        # the run starts at mean 0 and variance 1, slightly off the level's own mean sqrt(abar_T) mu
        variance = (gains[1:] ** 2).sum() + gains[0] ** 2 * (1 - start)
        mean = offset + gains[0] * start**0.5 * MU
        assert variance == pytest.approx(1 - level, abs=1e-9)
        assert mean == pytest.approx(level**0.5 * MU, abs=1e-9)


def final_error(steps, eta):
    """Distance of the sampler's mean and deviation from the data's, when it starts from the level's own law."""
    schedule = stable_diffusion_schedule(spacing="trailing", final_alpha_cumprod=1.0)
    start = schedule.abar(999)
    *_, (_, offset, gains) = responses(Best(schedule), steps, eta)
    mean = offset + gains[0] * start**0.5 * MU
    deviation = ((gains[1:] ** 2).sum() + gains[0] ** 2 * (start * S**2 + 1 - start)) ** 0.5
    return abs(mean - MU), abs(deviation - S)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_mean_and_deviation_of_the_samples(eta):
    mean, deviation = final_error(400, eta)
    assert mean < 1e-6
    assert deviation < 1.2e-2


def test_error_of_ddim_is_first_order_in_the_step():
    steps = np.array([50, 100, 200, 400])
    errors = np.array([final_error(int(n), 0.0)[1] for n in steps])
    order = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert 0.8 < order < 1.1
