"""The noise schedule of a folder does not depend on the solver that its scheduler configuration names."""

import diffusers
import pytest
import torch

from sfumato.errors import BadInput
from sfumato.models.schedules import schedule_from_config

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def config(scheduler):
    return {**scheduler.config, "_class_name": type(scheduler).__name__}


SOLVERS = [
    "DDIMScheduler",
    "DDPMScheduler",
    "PNDMScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "DPMSolverMultistepScheduler",
    "UniPCMultistepScheduler",
    "LCMScheduler",
]


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_schedule_is_independent_of_the_solver(solver, prediction):
    scheduler = getattr(diffusers, solver)(**BETAS, prediction_type=prediction)
    schedule = schedule_from_config(config(scheduler))
    assert torch.equal(schedule.alphas_cumprod, scheduler.alphas_cumprod.double())
    assert schedule.alphas_cumprod.dtype == torch.float64
    assert schedule.prediction_type == prediction
    assert schedule.spacing == scheduler.config.timestep_spacing


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("to_one", [True, False])
def test_spacing_offset_and_final_alpha_match_diffusers(spacing, to_one):
    ddim = diffusers.DDIMScheduler(timestep_spacing=spacing, set_alpha_to_one=to_one, steps_offset=1)
    ddim.set_timesteps(20)
    schedule = schedule_from_config(ddim.config)
    assert schedule.timesteps(20) == ddim.timesteps.tolist()
    assert schedule.final_alpha_cumprod == float(ddim.final_alpha_cumprod)


def test_missing_settings_use_the_defaults_of_the_class():
    schedule = schedule_from_config({"_class_name": "PNDMScheduler", **BETAS})
    assert schedule.final_alpha_cumprod == float(schedule.alphas_cumprod[0])
    assert schedule_from_config({"_class_name": "DDIMScheduler", **BETAS}).final_alpha_cumprod == 1


@pytest.mark.parametrize("prediction", ["v_prediction", "sample", "epsilon"])
@pytest.mark.parametrize("solver", ["DDIMScheduler", "EulerDiscreteScheduler", "UniPCMultistepScheduler"])
def test_zero_terminal_snr_matches_diffusers_and_ends_at_zero(prediction, solver):
    about = {**BETAS, "rescale_betas_zero_snr": True, "prediction_type": prediction}
    found = schedule_from_config({"_class_name": solver, **about}).alphas_cumprod
    euler = diffusers.EulerDiscreteScheduler(**BETAS, rescale_betas_zero_snr=True)
    assert torch.equal(found[:-1], euler.alphas_cumprod[:-1].double())
    assert found[-1] == 0


def test_small_final_abar_is_not_set_to_zero():
    cosine = {"_class_name": "DDIMScheduler", "beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"}
    assert 0 < schedule_from_config(cosine).alphas_cumprod[-1] < 2.0**-24


@pytest.mark.parametrize("name", ["FlowMatchEulerDiscreteScheduler", "EDMEulerScheduler", "ScoreSdeVeScheduler"])
def test_unsupported_schedulers_are_rejected(name):
    with pytest.raises(BadInput, match=name):
        schedule_from_config(config(getattr(diffusers, name)()))


@pytest.mark.parametrize("solver", ["DDIMScheduler", "DDPMScheduler", "DPMSolverMultistepScheduler"])
def test_dynamic_thresholding_is_refused(solver):
    with pytest.raises(BadInput, match=f"{solver} expects dynamic thresholding"):
        schedule_from_config({"_class_name": solver, **BETAS, "thresholding": True})


def test_sample_range_requires_a_clipping_pixel_scheduler():
    for solver, expected in {"DDPMScheduler": 1.0, "DDIMScheduler": 1.0, "PNDMScheduler": None}.items():
        schedule = schedule_from_config({"_class_name": solver, **BETAS}, pixels=True)
        assert schedule.sample_range == expected, solver
    wide = {"_class_name": "DDPMScheduler", **BETAS, "clip_sample_range": 2.5, "variance_type": "fixed_large"}
    assert schedule_from_config(wide, pixels=True).sample_range == 2.5
    assert schedule_from_config(wide).sample_range is None


def test_flow_prediction_is_refused():
    scheduler = diffusers.DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True)
    with pytest.raises(BadInput, match="DPMSolverMultistepScheduler"):
        schedule_from_config(config(scheduler))
