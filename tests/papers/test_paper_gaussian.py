"""The two-dimensional illustration follows its closed forms."""

import numpy as np
import pytest
import torch

from papers.ddpm_noise_space import gaussian
from sfumato.core.condition import Condition
from sfumato.core.step import mean, sigma

POINTS, STEPS = 4000, 50


@pytest.fixture(scope="module")
def numbers():
    return gaussian.measure(POINTS, STEPS)


@pytest.mark.parametrize("kind", ["native", "edit-friendly"])
def test_variance_follows_the_closed_form(numbers, kind):
    measured, expected = np.array(numbers[kind]["variance"]), np.array(numbers[kind]["expected_variance"])
    assert len(measured) == STEPS - 1  # the last step adds no noise
    # the variance of 2 * POINTS normal numbers has a relative standard deviation of 1 / sqrt(POINTS) = 1.6 %
    assert np.abs(measured / expected - 1).max() < 5 / np.sqrt(POINTS)


@pytest.mark.parametrize("kind", ["native", "edit-friendly"])
def test_correlation_follows_the_closed_form(numbers, kind):
    measured, expected = np.array(numbers[kind]["correlation"]), np.array(numbers[kind]["expected_correlation"])
    assert len(measured) == STEPS - 2
    assert np.abs(measured - expected).max() < 5 / np.sqrt(2 * POINTS)


def test_noise_maps_have_the_properties_of_the_paper(numbers):
    native, friendly = numbers["native"], numbers["edit-friendly"]
    assert np.abs(np.array(native["variance"][: STEPS // 2]) - 1).max() < 0.1
    assert all(a > b for a, b in zip(friendly["expected_variance"], native["expected_variance"], strict=True))
    assert min(friendly["variance"]) > 1
    assert max(friendly["correlation"]) < -0.3
    assert np.abs(native["correlation"]).max() < 0.1
    assert native["mean_angle_degrees"] == pytest.approx(90, abs=1)
    assert friendly["mean_angle_degrees"] > 110


def test_denoiser_is_the_posterior_mean():
    """A least-squares fit of e on x_t over many samples gives the line that the denoiser computes."""
    denoiser = gaussian.GaussianDenoiser(gaussian.linear_schedule())
    generator = torch.Generator().manual_seed(0)
    x0 = gaussian.CENTRE + torch.randn(200_000, generator=generator, dtype=torch.float64)
    e = torch.randn(200_000, generator=generator, dtype=torch.float64)
    for t in (50, 400, 800):
        abar = denoiser.schedule.abar(t)
        x = abar**0.5 * x0 + (1 - abar) ** 0.5 * e
        slope, offset = np.polyfit(x.numpy(), e.numpy(), 1)
        at = torch.tensor([0.0, 1.0], dtype=torch.float64).reshape(1, 2, 1, 1)
        predicted = denoiser.predict(at, t, Condition(rows=1)).flatten()
        assert float(predicted[0]) == pytest.approx(offset, abs=0.05)
        assert float(predicted[1] - predicted[0]) == pytest.approx(slope, abs=0.01)


def test_step_mean_is_the_shrunk_deviation():
    """y_{t-1} = sqrt(alpha_t) y_t for eta = 1, from which the closed forms are derived."""
    denoiser = gaussian.GaussianDenoiser(gaussian.linear_schedule())
    x = torch.randn(1, 2, 8, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    abar, abar_prev = denoiser.schedule.abar(500), denoiser.schedule.abar(480)
    eps = denoiser.predict(x, 500, None)
    moved = mean(x, eps, eps, abar, abar_prev, sigma(abar, abar_prev, 1.0))
    deviation, expected = moved - abar_prev**0.5 * gaussian.CENTRE, x - abar**0.5 * gaussian.CENTRE
    assert torch.allclose(deviation, (abar / abar_prev) ** 0.5 * expected, atol=1e-12)
