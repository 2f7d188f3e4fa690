"""Clipping P_t to the range of pixels equals diffusers' clip_sample, and changes nothing inside the range."""

import shutil

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from sfumato.core.condition import Condition
from sfumato.core.guidance import classifier_free
from sfumato.core.loop import recorded, reverse
from sfumato.core.noise import gaussian_batch
from sfumato.editing.generate import GenerateParams, generate
from sfumato.inversion import invert_edit_friendly, replay
from sfumato.models.load import load_model
from sfumato.models.schedules import schedule_from_config
from sfumato.shifts.sample_range import ClipSample
from tests.exact.test_step import Network, network_output, randn
from tests.exact.toy import finished
from tests.tiny import tiny_ddpm

SHAPE = (2, 3, 4, 6)
LIMITS = [1.0, 0.3]


def in_double(scheduler):
    """The scheduler with float64 tables, so that its own rounding does not hide a difference."""
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    scheduler.final_alpha_cumprod = torch.tensor(1.0, dtype=torch.float64)
    scheduler.one = torch.tensor(1.0, dtype=torch.float64)
    return scheduler


def our_run(scheduler, x, z, eta, limit, n):
    schedule = schedule_from_config({**scheduler.config, "_class_name": type(scheduler).__name__}, pixels=True)
    assert schedule.sample_range == limit
    maps = lambda state: recorded(z)(state) if state.sigma > 0 else None  # noqa: E731
    shifts, condition = [ClipSample(schedule.sample_range)], Condition(rows=len(x))
    return list(
        reverse(Network(schedule), x, schedule.timesteps(n), condition, eta=eta, noise_maps=maps, shifts=shifts)
    )


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_runs_equal_ddim_with_the_clipped_output(limit, eta, prediction):
    scheduler = DDIMScheduler(clip_sample=True, clip_sample_range=limit, prediction_type=prediction)
    scheduler.set_timesteps(10)
    x, z = randn(*SHAPE).double(), randn(10, *SHAPE, seed=1).double()
    ours = our_run(scheduler, x, z, eta, limit, 10)
    scheduler, outside = in_double(scheduler), 0.0
    for i, t in enumerate(scheduler.timesteps.tolist()):
        theirs = scheduler.step(network_output(x, t), t, x, eta=eta, use_clipped_model_output=True, variance_noise=z[i])
        outside = max(outside, float(theirs.pred_original_sample.abs().max()))
        torch.testing.assert_close(ours[i].x0_prediction, theirs.pred_original_sample, atol=1e-6, rtol=0)
        torch.testing.assert_close(ours[i].x_prev, theirs.prev_sample, atol=1e-6, rtol=0)
        x = theirs.prev_sample
    assert outside == pytest.approx(limit)  # something was clipped


@pytest.mark.parametrize("limit", LIMITS)
def test_runs_equal_ddpm(limit, monkeypatch):
    scheduler = DDPMScheduler(clip_sample=True, clip_sample_range=limit, variance_type="fixed_small")
    scheduler.set_timesteps(10)
    x, z = randn(*SHAPE).double(), randn(10, *SHAPE, seed=1).double()
    ours = our_run(scheduler, x, z, 1.0, limit, 10)
    scheduler = in_double(scheduler)
    for i, t in enumerate(scheduler.timesteps.tolist()):
        drawn = z[i]
        monkeypatch.setattr("diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *_, drawn=drawn, **__: drawn)
        x = scheduler.step(network_output(x, t), t, x).prev_sample
        torch.testing.assert_close(ours[i].x_prev, x, atol=1e-6, rtol=0)


def test_clipping_inside_the_range_changes_nothing():
    scheduler = DDIMScheduler(clip_sample=True, clip_sample_range=1e6)
    x = randn(*SHAPE)
    moved = our_run(scheduler, x, None, 0.0, 1e6, 10)
    network = Network(schedule_from_config(scheduler.config))
    condition, timesteps = Condition(rows=len(x)), network.schedule.timesteps(10)
    plain = list(reverse(network, x, timesteps, condition, eta=0.0, noise_maps=recorded(None)))
    assert all(torch.equal(a.x_prev, b.x_prev) for a, b in zip(moved, plain, strict=True))


@pytest.fixture(scope="module")
def clipped(tmp_path_factory):
    """A tiny pixel-space model whose scheduler has clip_sample, loaded from its folder."""
    folder = tiny_ddpm(tmp_path_factory.mktemp("clipped") / "m")
    DDPMScheduler(beta_schedule="linear", clip_sample=True).save_pretrained(folder / "scheduler")
    return load_model(folder, "cpu")


@torch.no_grad()
def test_generate_equals_diffusers_with_clip_sample(clipped):
    scheduler = DDIMScheduler.from_config(DDPMScheduler(beta_schedule="linear", clip_sample=True).config)
    scheduler.set_timesteps(8)
    x = gaussian_batch((3, 16, 16), [5], step=1000, tag="generate")
    *_, last = generate(
        classifier_free(clipped, None, (1.0,)), (3, 16, 16), clipped.condition(""), GenerateParams(8), seeds=[5]
    )
    for t in scheduler.timesteps:
        x = scheduler.step(clipped.unet(x, t).sample, t, x, use_clipped_model_output=True).prev_sample
    torch.testing.assert_close(last.x_prev, x, atol=1e-4, rtol=0)
    assert last.x_prev.abs().max() <= 1 + 1e-6


@torch.no_grad()
def test_exact_inversion_with_clip_sample(clipped):
    guided, condition = classifier_free(clipped, None, (1.0,)), clipped.condition("")
    x0 = torch.sign(randn(1, 3, 16, 16))  # black and white pixels: the ends of the range
    inversion, _ = finished(invert_edit_friendly(guided, x0, condition, steps=10, seeds=[0], exact=True))
    *_, last = replay(guided, inversion, condition)
    assert (last.x_prev - x0).abs().max() <= 1e-6


def test_latent_models_have_no_sample_range(tiny_sd_folder, tmp_path):
    folder = shutil.copytree(tiny_sd_folder, tmp_path / "m")
    DDIMScheduler(clip_sample=True, steps_offset=1).save_pretrained(folder / "scheduler")
    assert load_model(folder, "cpu").schedule.sample_range is None
