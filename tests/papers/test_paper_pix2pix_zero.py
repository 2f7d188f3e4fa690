"""Distances of noise from white N(0, 1) noise."""

import numpy as np
import pytest
import torch

from papers.pix2pix_zero import COLUMNS, as_markdown, distances


def test_autocorrelation_is_that_of_noise_with_mean_0_and_variance_1():
    noise = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    found, moved = distances(noise), distances(0.5 * noise + 3)
    assert moved["autocorrelation"] == pytest.approx(found["autocorrelation"], rel=1e-5)
    assert moved["kurtosis"] == pytest.approx(found["kurtosis"], rel=1e-4)
    assert moved["variance"] == pytest.approx([1 - 0.25 * float(each.double().var()) for each in noise])
    unit = noise[0].double().numpy()
    unit = (unit - unit.mean()) / unit.std()
    shifts = [(i, j) for i in range(8) for j in range(8) if (i, j) != (0, 0)]
    direct = [(channel * np.roll(channel, shift, (0, 1))).mean() ** 2 for channel in unit for shift in shifts]
    assert found["autocorrelation"][0] == pytest.approx(np.mean(direct))


def test_white_noise_has_the_stated_autocorrelation():
    noise = torch.randn(200, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    assert np.mean(distances(noise)["autocorrelation"]) == pytest.approx(1 / 256, rel=0.02)
    smooth = torch.nn.functional.avg_pool2d(noise, 3, 1, 1)
    assert min(distances(smooth)["autocorrelation"]) > 2 / 256


def test_table_has_means_and_errors():
    values = {column: [1.0, 2.0] for column in COLUMNS}
    assert "| DDIM | 1.5 ± 0.5 | 1.5 ± 0.5 | 1.5 ± 0.5 | 1.5 ± 0.5 | 1.5 ± 0.5 dB |" in as_markdown({"DDIM": values})
