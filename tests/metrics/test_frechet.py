"""The Frechet distance against its definition and closed forms, also for singular covariances."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.errors import BadInput, NonFinite
from sfumato.metrics import feature_distance, frechet_distance, gaussian_statistics


def gaussian(seed, d):
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((d, d))
    return torch.from_numpy(rng.standard_normal(d)), torch.from_numpy(root @ root.T / d)


def by_definition(mu1, S1, mu2, S2):
    """Heusel et al. (2017), equation 6, with the roots of the eigenvalues of S1 S2."""
    roots = torch.linalg.eigvals(S1 @ S2).sqrt().real.sum()
    return float((mu1 - mu2) @ (mu1 - mu2) + torch.trace(S1) + torch.trace(S2) - 2 * roots)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 24))
def test_equals_the_definition(seed, d):
    one, two = gaussian(seed, d), gaussian(seed + 1, d)
    assert frechet_distance(*one, *two) == pytest.approx(by_definition(*one, *two), rel=1e-6, abs=1e-7)
    assert frechet_distance(*one, *two) == pytest.approx(frechet_distance(*two, *one), rel=1e-9)


def test_equals_the_closed_form_for_independent_gaussians():
    rng = np.random.default_rng(3)
    m1, m2, s1, s2 = (torch.from_numpy(rng.random(12)) for _ in range(4))
    expected = float(((m1 - m2) ** 2 + (s1 - s2) ** 2).sum())
    assert frechet_distance(m1, torch.diag(s1**2), m2, torch.diag(s2**2)) == pytest.approx(expected, rel=1e-12)


def test_shift_of_the_mean_adds_its_squared_norm():
    mu, S = gaussian(4, 8)
    assert frechet_distance(mu, S, mu + 3, S) == pytest.approx(8 * 9, rel=1e-12)


@pytest.mark.parametrize(("n", "d"), [(200, 16), (10, 64), (2, 5)])
def test_identical_sets_have_distance_zero(n, d):
    features = torch.from_numpy(np.random.default_rng(n).standard_normal((n, d)))
    assert feature_distance(features, features) == pytest.approx(0, abs=1e-10)
    assert feature_distance(features, features.flip(0)) == pytest.approx(0, abs=1e-6)


def test_features_of_known_gaussians_approach_the_closed_form():
    rng = np.random.default_rng(5)
    a, b = rng.standard_normal((40000, 4)), 2 * rng.standard_normal((40000, 4)) + 1
    assert feature_distance(torch.from_numpy(a), torch.from_numpy(b)) == pytest.approx(4 * (1 + 1), rel=0.03)


def test_statistics_equal_numpy():
    x = np.random.default_rng(6).standard_normal((50, 7)).astype(np.float32)
    mu, S = gaussian_statistics(torch.from_numpy(x))
    np.testing.assert_allclose(mu.numpy(), x.astype(np.float64).mean(0), rtol=1e-12)
    np.testing.assert_allclose(S.numpy(), np.cov(x.astype(np.float64), rowvar=False), rtol=1e-12)


def test_rotation_leaves_the_distance_unchanged():
    rng = np.random.default_rng(7)
    a, b = torch.from_numpy(rng.standard_normal((2, 60, 9)))
    Q, _ = torch.linalg.qr(torch.from_numpy(rng.standard_normal((9, 9))))
    assert feature_distance(a @ Q, b @ Q) == pytest.approx(feature_distance(a, b), rel=1e-9)


def test_invalid_input_is_refused():
    mu, S = gaussian(8, 4)
    with pytest.raises(BadInput, match="two images"):
        gaussian_statistics(torch.zeros(1, 4))
    with pytest.raises(NonFinite):
        gaussian_statistics(torch.full((3, 4), torch.nan))
    with pytest.raises(BadInput, match="eigenvalue"):
        frechet_distance(mu, -S, mu, S)
    with pytest.raises(BadInput, match="symmetric"):
        frechet_distance(mu, S + torch.triu(torch.ones(4, 4)), mu, S)
