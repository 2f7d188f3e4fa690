"""Soft borders inside a mask."""

import numpy as np
import pytest

from sfumato.images.feather import feathered


def square(size=60, low=10, high=50):
    weights = np.zeros((size, size), np.float32)
    weights[low:high, low:high] = 1
    return weights


def test_weights_increase_from_the_border():
    found = feathered(square(), 8)
    assert not found[square() == 0].any()
    profile = found[30, 10:30]
    assert profile[0] < 0.02
    assert (np.diff(profile) >= 0).all()
    assert (np.diff(profile) < 0.25).all()  # no step
    assert (profile[9:] == 1).all()
    assert np.array_equal(found, found.T)
    assert np.array_equal(found, found[::-1, ::-1])


def test_the_depth_is_the_city_block_distance():
    from sfumato.images.feather import _depth

    inside = np.random.default_rng(0).random((13, 17)) > 0.1
    y, x = np.mgrid[:13, :17]
    outside = np.argwhere(~inside)
    wanted = np.array([np.abs(y - i) + np.abs(x - j) for i, j in outside]).min(axis=0)
    assert np.array_equal(_depth(inside, limit=99), wanted)
    assert np.array_equal(_depth(inside, limit=2), wanted.clip(max=2))


def test_the_border_of_the_image_is_not_softened():
    weights = np.zeros((40, 40), np.float32)
    weights[:, :20] = 1
    found = feathered(weights, 6)
    assert (found[:, 0] == 1).all()
    assert np.array_equal(feathered(np.ones((8, 8), np.float32), 3), np.ones((8, 8)))


def test_weights_never_increase_and_narrow_masks_reach_one():
    soft = square() * np.linspace(0, 1, 60, dtype=np.float32)
    assert (feathered(soft, 8) <= soft).all()
    narrow = np.zeros((40, 40), np.float32)
    narrow[:, 18:24] = 1
    assert feathered(narrow, 30).max() == 1


@pytest.mark.parametrize("reach", [0, 0.4])
def test_small_reach_leaves_the_mask_unchanged(reach):
    assert np.array_equal(feathered(square(), reach), square())
