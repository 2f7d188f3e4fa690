"""The timesteps of a run equal those of diffusers' schedulers; schedules that cannot be run are refused."""

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from sfumato.core.schedule import FINISHED, Schedule
from sfumato.errors import BadInput

SPACINGS = ("leading", "trailing", "linspace")
STEPS = (1, 2, 7, 10, 20, 30, 50, 100, 333, 999, 1000)


def schedule_of(scheduler) -> Schedule:
    config = scheduler.config
    final = getattr(scheduler, "final_alpha_cumprod", torch.tensor(1.0))
    return Schedule(
        scheduler.alphas_cumprod.double(),
        float(final),
        config.prediction_type,
        config.timestep_spacing,
        config.steps_offset,
    )


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("scheduler_type", [DDIMScheduler, DDPMScheduler])
def test_timesteps_equal_diffusers(spacing, offset, scheduler_type):
    scheduler = scheduler_type(timestep_spacing=spacing, steps_offset=offset)
    schedule = schedule_of(scheduler)
    for steps in sorted({*range(1, 1001, 7), *STEPS} - {schedule.max_steps + 1}):
        scheduler.set_timesteps(steps)
        theirs = scheduler.timesteps.tolist()
        # where rounding of its stride leaves a remainder, numpy's arange appends the timestep -1
        assert schedule.timesteps(steps) == [t for t in theirs if t >= 0]


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("steps", STEPS)
def test_previous_timesteps_equal_ddpm(spacing, steps):
    scheduler = DDPMScheduler(timestep_spacing=spacing)
    scheduler.set_timesteps(steps)
    timesteps = schedule_of(scheduler).timesteps(steps)
    ours = schedule_of(scheduler).previous(timesteps)
    assert ours == [int(scheduler.previous_timestep(t)) for t in timesteps]
    assert ours[-1] == FINISHED


@pytest.mark.parametrize("steps", [0, -3, 1001])
@pytest.mark.parametrize("spacing", SPACINGS)
def test_steps_out_of_range_are_refused(spacing, steps):
    with pytest.raises(BadInput, match="between 1 and 1000"):
        schedule_of(DDIMScheduler(timestep_spacing=spacing)).timesteps(steps)


def test_offset_beyond_the_table_is_refused():
    schedule = schedule_of(DDIMScheduler(steps_offset=1))
    assert schedule.max_steps == 999
    with pytest.raises(BadInput, match="between 1 and 999"):
        schedule.timesteps(1000)


@pytest.mark.parametrize("spacing", ["trailing", "linspace"])
@pytest.mark.parametrize("steps", [2, 50, 1000])
def test_zero_terminal_snr_with_epsilon_prediction_is_refused(spacing, steps):
    """The timestep spacing that the message suggests gives a valid schedule."""
    zero = {"rescale_betas_zero_snr": True}
    with pytest.raises(BadInput, match=f'zero terminal SNR.*timestep_spacing from "{spacing}" to "leading"'):
        schedule_of(DDIMScheduler(timestep_spacing=spacing, **zero)).timesteps(steps)
    assert schedule_of(DDIMScheduler(timestep_spacing="leading", **zero)).timesteps(50)[0] == 980


def test_zero_terminal_snr_message_suggests_fewer_steps():
    schedule = schedule_of(DDIMScheduler(rescale_betas_zero_snr=True, steps_offset=1))
    with pytest.raises(BadInput, match=r"at timestep 999.*use fewer steps\."):
        schedule.timesteps(999)
    assert schedule.timesteps(499)[0] < 999


def test_final_level():
    assert schedule_of(DDIMScheduler(set_alpha_to_one=True)).abar(FINISHED) == 1
    scheduler = DDIMScheduler(set_alpha_to_one=False)
    assert schedule_of(scheduler).abar(FINISHED) == float(scheduler.alphas_cumprod[0])
