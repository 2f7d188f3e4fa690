"""Distances of tangent spaces, spectra, assignment, normalisation: against closed forms and brute force."""

import itertools
import math

import numpy as np
import pytest
import torch

from sfumato.core.noise import gaussian
from sfumato.core.step import diffuse, predict_x0
from sfumato.errors import BadInput
from sfumato.geometry import gain, geodesic_distance, normalised, power_spectrum, principal_angles, segment_lengths
from sfumato.geometry.assignment import best_assignment
from sfumato.geometry.normalise import like
from sfumato.models.schedules import schedule_from_config
from tests.tiny import STABLE_DIFFUSION_BETAS


def randn(*shape, seed=0):
    return gaussian(shape, seed, dtype=torch.float64)


def space(*shape, seed=0):
    return torch.linalg.qr(randn(*shape, seed=seed).mT)[0].mT


@pytest.mark.parametrize("turn", [0.0, 1e-9, 1e-4, 0.5, math.pi / 2])
def test_principal_angles_of_a_known_rotation(turn):
    """Two axes turned by `turn` and twice that (at most a right angle) out of the space."""
    first = torch.eye(3, 8, dtype=torch.float64)
    angles = [turn, min(2 * turn, math.pi / 2), 0.0]
    second = first.clone()
    for axis, angle in enumerate(angles):
        second[axis, axis], second[axis, 4 + axis] = math.cos(angle), math.sin(angle)
    found = principal_angles(first[None], second[None])[0]
    torch.testing.assert_close(
        found, torch.tensor(sorted(angles, reverse=True)), rtol=1e-6, atol=1e-15, check_dtype=False
    )
    expected = math.sqrt(sum(angle**2 for angle in angles))
    assert float(geodesic_distance(first[None], second[None])) == pytest.approx(expected, rel=1e-6, abs=1e-15)


def test_geodesic_distance_is_a_metric_of_subspaces():
    a, b, c = (space(2, 4, 20, seed=seed) for seed in range(3))
    mixed = torch.linalg.qr(randn(2, 4, 4, seed=9))[0] @ b
    torch.testing.assert_close(geodesic_distance(a, b), geodesic_distance(a, mixed))
    torch.testing.assert_close(geodesic_distance(a, b), geodesic_distance(b, a))
    assert bool((geodesic_distance(a, c) <= geodesic_distance(a, b) + geodesic_distance(b, c)).all())
    torch.testing.assert_close(segment_lengths([a, b, c])[:, 1], geodesic_distance(b, c))
    angles = torch.linalg.svdvals(a @ b.mT).arccos().flip(-1)
    torch.testing.assert_close(principal_angles(a, b), angles)
    with pytest.raises(BadInput, match="same dimensions"):
        geodesic_distance(a, b[:, :3])


@pytest.mark.parametrize("shape", [(2, 3, 16, 16), (1, 4, 9, 14), (1, 1, 1, 5)])
@pytest.mark.parametrize("rings", [None, 1, 7])
def test_spectrum_satisfies_parseval(shape, rings):
    x = randn(*shape)
    spectrum = power_spectrum(x, rings)
    torch.testing.assert_close(spectrum.total, x.square().sum(dim=(1, 2, 3)))
    assert float(spectrum.count.sum()) == shape[1] * shape[2] * shape[3]


def test_spectra_of_constant_wave_and_white_noise():
    ones = power_spectrum(torch.ones(1, 1, 32, 32, dtype=torch.float64))
    assert float(ones.share_below(ones.frequency[1])) == pytest.approx(1)
    position = torch.arange(32, dtype=torch.float64)
    wave = torch.cos(2 * math.pi * 0.25 * position).expand(1, 1, 32, 32)
    spectrum = power_spectrum(wave)
    ring = int(spectrum.density[0].argmax())
    width = 0.5**0.5 / 16
    assert abs(float(spectrum.frequency[ring]) - 0.25) <= width / 2
    assert float(spectrum.density[0, ring] * spectrum.count[ring] / spectrum.total[0]) == pytest.approx(1)
    flat = power_spectrum(randn(1, 64, 64, 64), 8).density[0]
    assert float((flat / flat.mean() - 1).abs().max()) < 0.05
    with pytest.raises(BadInput, match="at least 1 ring"):
        power_spectrum(wave, 0)


def test_spectrum_uses_float64_only_on_the_cpu():
    """Devices such as MPS have no float64; the frequencies are compared on the CPU."""
    spectrum = power_spectrum(torch.empty(1, 2, 6, 4, device="meta"))
    parts = (spectrum.frequency, spectrum.density, spectrum.count, spectrum.power)
    assert {each.device.type for each in parts} == {"meta"}
    assert (spectrum.radius.device.type, spectrum.radius.dtype) == ("cpu", torch.float64)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 2), (5, 5), (4, 7), (6, 6)])
def test_assignment_equals_brute_force(rows, columns, seed):
    gains = np.random.default_rng(seed).normal(size=(rows, columns)).round(1)  # rounded: ties occur
    found = best_assignment(gains)
    assert len(set(found.tolist())) == rows
    best = max(sum(gains[i, j] for i, j in enumerate(p)) for p in itertools.permutations(range(columns), rows))
    assert gains[np.arange(rows), found].sum() == pytest.approx(best)


def test_assignment_finds_a_hidden_permutation():
    """60 rows and columns."""
    hidden = np.random.default_rng(0).permutation(60)
    gains = np.random.default_rng(1).uniform(0, 0.9, (60, 60))
    gains[np.arange(60), hidden] += 1
    assert best_assignment(gains).tolist() == hidden.tolist()


def test_gain_at_the_noisy_end():
    """5.5 for Stable Diffusion's schedule and 0.63 for the linear one."""
    linear_betas = {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}
    configs = ({"_class_name": "DDIMScheduler", **betas} for betas in (STABLE_DIFFUSION_BETAS, linear_betas))
    stable, linear = (schedule_from_config(config).abar(999) for config in configs)
    assert gain(stable) == pytest.approx(5.5, abs=0.05)
    assert gain(linear) == pytest.approx(0.63, abs=0.005)
    assert gain(1.0, 0.5) == 1
    for kappa in (-0.1, 1.0, math.nan):
        with pytest.raises(BadInput, match="kappa must be"):
            gain(0.5, kappa)


def test_normalisation_keeps_mean_and_deviation():
    original, edited = randn(2, 3, 6, 8), 3 * randn(2, 3, 6, 8, seed=1) + 2
    found = like(edited, original)
    for each in (lambda x: x.mean(dim=(1, 2, 3)), lambda x: x.std(dim=(1, 2, 3))):
        torch.testing.assert_close(each(found), each(original))
    torch.testing.assert_close(like(5 * original - 1, original), original)
    constant = like(torch.ones(1, 3, 4, 4), original[:1].float())
    torch.testing.assert_close(constant, torch.full_like(constant, float(original[0].mean())))


def test_normalisation_is_exact_for_a_linear_network():
    """Where eps(x) = e + kappa (x - x_t) the rule is exact: x_t' has the prediction x_0'."""
    x, edited, e = randn(1, 3, 4, 4), randn(1, 3, 4, 4, seed=1), randn(1, 3, 4, 4, seed=2)
    abar, kappa = 0.2, 0.7

    def predict(each):
        return e + kappa * (each - x)

    moved = normalised(predict, x, edited, abar, kappa)
    wanted = like(predict_x0(edited, predict(edited), abar), predict_x0(x, predict(x), abar))
    torch.testing.assert_close(predict_x0(moved, predict(moved), abar), wanted)
    torch.testing.assert_close(normalised(predict, x, x, abar, kappa), x)
    torch.testing.assert_close(diffuse(predict_x0(x, e, abar), e, abar), x)
