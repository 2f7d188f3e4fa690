"""The distribution of the training timesteps, and the weight of the loss."""

import pytest
import torch
from diffusers.training_utils import compute_density_for_timestep_sampling
from torch import nn

from sfumato.train.denoising import Denoising
from sfumato.train.noise import DiffusionLoss, Timesteps, noise_scheduler

COUNT = 1000


def drawn(size=200_000, **settings):
    return Timesteps(**settings).draw(size, COUNT, torch.Generator().manual_seed(0))


def test_uniform_timesteps_are_equally_frequent():
    counts = torch.bincount(drawn(), minlength=COUNT)
    assert len(counts) == COUNT
    assert counts.float().std() < 1.15 * 200**0.5, "that of a binomial distribution"


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (-0.7, 1.1), (2.0, 0.3)])
def test_logit_normal_timesteps_have_the_quantiles_of_the_distribution(mean, std):
    t = drawn(timesteps="logit_normal", logit_mean=mean, logit_std=std)
    levels = torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95])
    normal = torch.distributions.Normal(mean, std)
    expected = COUNT * torch.sigmoid(normal.icdf(levels))
    torch.testing.assert_close(torch.quantile(t.float() + 0.5, levels), expected, atol=4.0, rtol=0)


def test_logit_normal_timesteps_are_those_of_diffusers():
    t = drawn(timesteps="logit_normal", logit_mean=-0.7, logit_std=1.1)
    u = compute_density_for_timestep_sampling(
        "logit_normal", 200_000, logit_mean=-0.7, logit_std=1.1, generator=torch.Generator().manual_seed(0)
    )
    torch.testing.assert_close(t, (u * COUNT).long(), atol=1, rtol=0)


def test_every_timestep_is_in_the_schedule():
    t = drawn(timesteps="logit_normal", logit_mean=20.0, logit_std=1.0)
    assert t.max() == COUNT - 1
    assert drawn(timesteps="logit_normal", logit_mean=-20.0).min() == 0


def test_min_snr_weight_of_epsilon_is_min_of_snr_and_gamma_over_snr():
    """Its limit 1 at abar = 0, to which large betas may underflow."""
    loss = DiffusionLoss(prediction="epsilon", min_snr=5.0)
    abar = torch.tensor([0.0, 0.01, 0.5, 0.9, 0.999])
    snr = abar[1:] / (1 - abar[1:])
    weight = Denoising(nn.Identity(), noise_scheduler(loss), loss)._weight(abar)
    torch.testing.assert_close(weight[1:], snr.clamp(max=5.0) / snr)
    assert weight[0] == 1
