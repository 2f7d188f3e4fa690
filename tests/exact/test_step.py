"""Steps and trajectories equal diffusers' DDIM and DDPM schedulers to 1e-6; noise maps invert a step to rounding."""

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.core import step as steps_of
from sfumato.core.condition import Condition
from sfumato.core.loop import recorded, reverse
from tests.exact.test_schedule import SPACINGS, schedule_of

TOLERANCE = 1e-6
PREDICTIONS = ("epsilon", "v_prediction", "sample")
SHAPE = (2, 3, 4, 6)


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def network_output(x, t):
    """The output of a network that depends on both arguments."""
    return torch.sin(3 * x + 0.01 * t) + 0.1 * x.roll(1, -1)


class Network:
    def __init__(self, schedule):
        self.schedule = schedule

    def predict(self, x, t, cond=None, taps=None):
        output = network_output(x, t)
        return steps_of.to_epsilon(output, x, self.schedule.abar(t), self.schedule.prediction_type)


def scheduler_of(kind, **config):
    """A diffusers scheduler whose tables are float64, so that its own rounding does not hide a difference."""
    scheduler = kind(clip_sample=False, **config)
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    if kind is DDIMScheduler:
        scheduler.final_alpha_cumprod = scheduler.final_alpha_cumprod.double()
    return scheduler


def our_step(schedule, x, t, t_prev, eta, z):
    abar, abar_prev = schedule.abar(t), schedule.abar(t_prev)
    sigma = steps_of.sigma(abar, abar_prev, eta)
    eps = steps_of.to_epsilon(network_output(x, t), x, abar, schedule.prediction_type)
    mean = steps_of.mean(x, eps, eps, abar, abar_prev, sigma)
    return steps_of.step(mean, z if sigma > 0 else None, sigma)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("final_one", [True, False])
@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_every_step_equals_ddim(prediction, spacing, final_one, offset, eta):
    scheduler = scheduler_of(
        DDIMScheduler,
        prediction_type=prediction,
        timestep_spacing=spacing,
        set_alpha_to_one=final_one,
        steps_offset=offset,
    )
    schedule = schedule_of(scheduler)
    x, z = randn(*SHAPE).double(), randn(*SHAPE, seed=1).double()
    for n in (1, 7, 10, 20, 30, 50, 100, schedule.max_steps):
        scheduler.set_timesteps(n)
        timesteps = schedule.timesteps(n)
        for t in timesteps[:: max(1, n // 6)] + timesteps[-1:]:
            theirs = scheduler.step(network_output(x, t), t, x, eta=eta, variance_noise=z).prev_sample
            ours = our_step(schedule, x, t, t - 1000 // n, eta, z)
            assert (ours - theirs).abs().max() <= TOLERANCE, (n, t)


# where DDIMScheduler leaves x at a level that it does not evaluate next (see `previous`), only steps are compared
UNIFORM = [("leading", n) for n in (7, 10, 30, 100)] + [("trailing", n) for n in (10, 50)]


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize(("spacing", "n"), UNIFORM)
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_trajectory_equals_ddim(prediction, spacing, eta, n):
    """The same comparison for complete runs of `reverse`."""
    scheduler = scheduler_of(DDIMScheduler, prediction_type=prediction, timestep_spacing=spacing)
    schedule = schedule_of(scheduler)
    scheduler.set_timesteps(n)
    timesteps = schedule.timesteps(n)
    x = randn(*SHAPE).double()
    z = randn(n, *SHAPE, seed=1).double()
    maps = _without_last(schedule, z)
    ours = list(reverse(Network(schedule), x, timesteps, Condition(rows=len(x)), eta=eta, noise_maps=maps))
    for i, t in enumerate(timesteps):
        x = scheduler.step(network_output(x, t), t, x, eta=eta, variance_noise=z[i]).prev_sample
        assert (ours[i].x_prev - x).abs().max() <= TOLERANCE * max(1, float(x.abs().max())), i


def _without_last(schedule, z):
    return lambda state: recorded(z)(state) if state.sigma > 0 else None


DDPM_RUNS = [(p, s, n) for p in PREDICTIONS for s in SPACINGS for n in (7, 10, 50)]


@pytest.mark.parametrize(("prediction", "spacing", "n"), [*DDPM_RUNS, ("epsilon", "leading", 250)])
def test_trajectory_equals_ddpm(prediction, spacing, n):
    scheduler = scheduler_of(DDPMScheduler, prediction_type=prediction, timestep_spacing=spacing)
    schedule = schedule_of(scheduler)
    scheduler.set_timesteps(n)
    timesteps = schedule.timesteps(n)
    x = randn(*SHAPE).double()
    generator = torch.Generator().manual_seed(5)
    z = torch.stack([torch.randn(SHAPE, generator=generator, dtype=torch.float64) for _ in range(n)])
    maps = _without_last(schedule, z)
    run = reverse(Network(schedule), x, timesteps, Condition(rows=len(x)), eta=1.0, noise_maps=maps)
    generator = torch.Generator().manual_seed(5)
    for state in run:
        x = scheduler.step(network_output(x, state.t), state.t, x, generator=generator).prev_sample
        assert (state.x_prev - x).abs().max() <= TOLERANCE * max(1, float(x.abs().max())), state.i


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_float32_equals_unmodified_ddim(eta):
    """diffusers computes its tables in float32, whose cancellation near t = 0 costs it about 1e-6."""
    scheduler = DDIMScheduler(clip_sample=False)
    scheduler.set_timesteps(50)
    schedule = schedule_of(scheduler)
    x, z = randn(*SHAPE), randn(*SHAPE, seed=1)
    for t in schedule.timesteps(50):
        theirs = scheduler.step(network_output(x, t), t, x, eta=eta, variance_noise=z).prev_sample
        ours = our_step(schedule, x, t, t - 20, eta, z)
        assert (ours - theirs).abs().max() <= 2e-6, t


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_to_epsilon_inverts_the_training_target(prediction):
    x0, e, abar = randn(*SHAPE).double(), randn(*SHAPE, seed=1).double(), 0.3
    x = steps_of.diffuse(x0, e, abar)
    scheduler = scheduler_of(DDPMScheduler)
    scheduler.alphas_cumprod[17] = abar
    v = scheduler.get_velocity(x0, e, torch.tensor([17]))
    output = {"epsilon": e, "v_prediction": v, "sample": x0}[prediction]
    assert torch.allclose(steps_of.to_epsilon(output, x, abar, prediction), e, atol=1e-12)
    assert torch.allclose(steps_of.predict_x0(x, e, abar), x0, atol=1e-12)


def test_mean_takes_separate_noise_for_prediction_and_direction():
    x, a, b = (randn(*SHAPE, seed=s).double() for s in range(3))
    both = steps_of.mean(x, a, b, 0.5, 0.7, 0.1)
    expected = 0.7**0.5 * (x - 0.5**0.5 * a) / 0.5**0.5 + (1 - 0.7 - 0.01) ** 0.5 * b
    assert torch.allclose(both, expected, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.floats(1e-3, 0.99), st.floats(1e-4, 0.999), st.floats(0, 1), st.integers(0, 2**31), st.booleans())
def test_noise_map_inverts_step(abar, gap, eta, seed, last):
    """A float32 noise map reproduces x_{t-1} to a float32 rounding of the step's size."""
    abar_prev = 1.0 if last else abar + gap * (1 - abar)
    sigma = steps_of.sigma(abar, abar_prev, eta)
    x_prev, x, eps = (randn(*SHAPE, seed=seed + k) for k in range(3))
    mean = steps_of.mean(x, eps, eps, abar, abar_prev, sigma)
    z = steps_of.noise_map(x_prev, mean, sigma).float()
    corrected = steps_of.step(mean, z, sigma).float()
    size = float((x_prev - mean).abs().max() + x_prev.abs().max())
    assert (corrected - x_prev).abs().max() <= 2**-23 * size
    again = steps_of.noise_map(corrected, mean, sigma).float()
    assert (steps_of.step(mean, again, sigma).float() - corrected).abs().max() <= 2**-23 * size
    assert torch.isfinite(z).all()


def test_rows_may_have_different_levels():
    x, eps = randn(*SHAPE), randn(*SHAPE, seed=1)
    levels = steps_of.per_row([0.2, 0.9], x)
    together = steps_of.predict_x0(x, eps, levels)
    for row, level in enumerate((0.2, 0.9)):
        alone = steps_of.predict_x0(x[row : row + 1], eps[row : row + 1], level)
        assert torch.equal(together[row : row + 1], alone)
