"""Standard errors of samples, of clustered samples and of pairs, and exact tests."""

import math

import numpy as np
import pytest

from papers.sure import STUDENT, clustered, clustered_difference, difference, estimate, over_pairs, trend


def test_clustered_error_of_single_samples_is_the_usual_error():
    values = [0.1, 0.4, -0.2, 0.7, 0.3]
    found, usual = clustered(values, range(5)), estimate(values)
    assert (found.mean, found.error) == pytest.approx((usual.mean, usual.error))
    assert found.sure == usual.sure == STUDENT[3]
    other = [0.0, 0.1, 0.2, 0.3, 0.4]
    assert clustered_difference(values, other, range(5)).error == pytest.approx(difference(values, other).error)


def test_copies_of_a_sample_do_not_reduce_the_error():
    values = [0.1, 0.4, -0.2, 0.7, 0.3]
    copied, groups = [each for each in values for _ in range(4)], [n for n in range(5) for _ in range(4)]
    assert clustered(copied, groups).error == pytest.approx(clustered(values, range(5)).error)
    assert estimate(copied).error < 0.5 * estimate(values).error


def test_one_group_is_never_significant():
    found = clustered([1.0, 1.1], ["a", "a"])
    assert math.isnan(found.error)
    assert not found.positive


def test_false_positive_rate_is_about_2_5_percent():
    """One-sided, for six groups of two samples each without an effect."""
    draw, wrong = np.random.default_rng(0), 0
    groups = [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    for _ in range(2000):
        values = draw.normal(size=6)[groups] + 0.3 * draw.normal(size=12)
        wrong += clustered(values.tolist(), groups).positive
    assert 0.015 < wrong / 2000 < 0.035


@pytest.mark.parametrize(("count", "holds"), [(31, True), (12, False)])
def test_few_samples_need_more_standard_errors(count, holds):
    """A mean of 2.1 errors is significant for 31 samples, not for 12."""
    noise = np.random.default_rng(0).normal(size=count)
    values = ((noise - noise.mean()) / noise.std(ddof=1) * math.sqrt(count) + 2.1).tolist()
    assert (estimate(values).mean, estimate(values).error) == pytest.approx((2.1, 1))
    assert estimate(values).positive is holds
    assert trend([0.0, 1.0], [[0.0] * count, values]).positive is holds
    assert not estimate(values[:1]).positive


def test_mean_over_pairs_has_the_jackknife_error():
    """One sample is left out at a time; the error of the rows, in which all pairs count twice, is about half of it."""
    n, draw = 9, np.random.default_rng(1)
    own, pairs = draw.normal(size=n), np.triu(draw.normal(size=(n, n)), 1)
    pairs = pairs + pairs.T + own[:, None] + own
    rows = [float(np.delete(pairs[k], k).mean()) for k in range(n)]

    def mean(kept):
        return np.mean([pairs[a, b] for a in kept for b in kept if a < b])

    without = [mean([k for k in range(n) if k != left]) for left in range(n)]
    error = math.sqrt((n - 1) / n * sum((each - np.mean(without)) ** 2 for each in without))
    found = estimate(over_pairs(rows))
    assert (found.mean, found.error) == pytest.approx((mean(range(n)), error))
    assert found.error == pytest.approx(2 * (n - 1) / (n - 2) * estimate(rows).error)
