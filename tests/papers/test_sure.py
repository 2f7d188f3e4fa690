"""Standard errors of clustered samples, and exact tests."""

import math

import numpy as np
import pytest

from papers.sure import STUDENT, clustered, clustered_difference, difference, estimate, sign_test


def test_with_one_sample_per_group_it_is_the_usual_error():
    values = [0.1, 0.4, -0.2, 0.7, 0.3]
    found, usual = clustered(values, range(5)), estimate(values)
    assert (found.mean, found.error) == pytest.approx((usual.mean, usual.error))
    assert found.sure == STUDENT[3]
    other = [0.0, 0.1, 0.2, 0.3, 0.4]
    assert clustered_difference(values, other, range(5)).error == pytest.approx(difference(values, other).error)


def test_copies_of_a_sample_add_no_certainty():
    values = [0.1, 0.4, -0.2, 0.7, 0.3]
    copied, groups = [each for each in values for _ in range(4)], [n for n in range(5) for _ in range(4)]
    assert clustered(copied, groups).error == pytest.approx(clustered(values, range(5)).error)
    assert estimate(copied).error < 0.5 * estimate(values).error


def test_one_group_is_never_significant():
    found = clustered([1.0, 1.1], ["a", "a"])
    assert math.isnan(found.error)
    assert not found.positive


def test_the_share_of_wrong_verdicts_is_five_percent():
    """2.5 % on the side of the claim, for groups of unequal sizes without an effect."""
    draw, wrong = np.random.default_rng(0), 0
    groups = [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    for _ in range(2000):
        values = draw.normal(size=6)[groups] + 0.3 * draw.normal(size=12)
        wrong += clustered(values.tolist(), groups).positive
    assert 0.015 < wrong / 2000 < 0.035


def test_exact_sign_test():
    assert sign_test([True] * 5, [False] * 5) == pytest.approx(2 / 32)
    assert sign_test([True] * 6 + [False] * 9, [False] * 15) == pytest.approx(2 / 64)
    assert sign_test([True, False], [False, True]) == 1
    assert sign_test([True, True], [True, True]) == 1
