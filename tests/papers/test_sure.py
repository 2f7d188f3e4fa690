"""Standard errors of samples, of clustered samples and of pairs, and exact tests."""

import math

import numpy as np
import pytest

from papers.sure import (
    STUDENT,
    Estimate,
    clustered,
    clustered_difference,
    difference,
    estimate,
    over_members,
    over_pairs,
    trend,
)


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


def test_samples_that_share_a_member_are_not_independent():
    """The variance is the double sum over all couples of samples that share a member."""
    values, pairs = [0.9, 0.7, 0.8, -0.3, 0.3], [("a", "b"), ("b", "c"), ("a", "b"), ("d", "e"), ("e", "a")]
    found, mean = over_members(values, pairs), sum(values) / 5
    couples = [(i, j) for i in range(5) for j in range(5) if set(pairs[i]) & set(pairs[j])]
    total = sum((values[i] - mean) * (values[j] - mean) for i, j in couples)
    assert (found.mean, found.error) == pytest.approx((mean, math.sqrt(5 / 4 * total) / 5))
    assert found.sure == STUDENT[3]
    apart = over_members(values, [(n, -1 - n) for n in range(5)])
    assert apart.error == pytest.approx(estimate(values).error * math.sqrt(4 / 5 * 10 / 9))
    assert over_members([1.0, 1.0, 3.0], [("a", "b"), ("b", "a"), ("c", "d")]).error > 0
    assert not over_members([1.0, 1.1], [("a", "b"), ("b", "a")]).positive


def test_errors_of_shared_members_are_those_of_repeated_draws():
    """The standard error is about the standard deviation of the mean over repeated draws of the members' effects."""
    draw = np.random.default_rng(0)
    pairs = [(i, j) for i in range(20) for j in range(i) if (i + j) % 5 == 0]
    means, errors, usual = [], [], []
    for _ in range(400):
        own = draw.normal(size=20)
        values = [float(own[i] + own[j] + 0.2 * draw.normal()) for i, j in pairs]
        found = over_members(values, pairs)
        means.append(found.mean)
        errors.append(found.error)
        usual.append(estimate(values).error)
    assert np.mean(errors) == pytest.approx(np.std(means), rel=0.15)
    assert np.mean(usual) < 0.6 * np.std(means)


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


@pytest.mark.parametrize(("error", "shown"), [(10.4, "10"), (0.26, "0.3"), (3e-5, "3e-05")])
def test_errors_have_one_significant_digit(error, shown):
    assert str(Estimate(42.3, error, 2.0)) == f"+42 ± {shown}"
