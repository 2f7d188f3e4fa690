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


def test_every_part_of_a_mask_is_feathered_as_if_it_were_alone():
    thin, large = np.zeros((2, 120, 120), np.float32)
    thin[10:30, 10:110] = 1
    large[40:110, 10:110] = 1
    found = feathered(thin + large, 30)
    assert np.array_equal(found, feathered(thin, 30) + feathered(large, 30))
    assert found[thin > 0].max() == 1


def test_the_largest_value_in_a_part_is_that_of_a_flood_fill():
    from sfumato.images.feather import _largest_in_part

    rng = np.random.default_rng(0)
    inside, values = rng.random((31, 23)) > 0.4, rng.random((31, 23)).astype(np.float32)
    wanted = values * inside
    for _ in range(inside.size):
        near = np.pad(wanted, 1)
        around = [near[1:-1, 1:-1], near[:-2, 1:-1], near[2:, 1:-1], near[1:-1, :-2], near[1:-1, 2:]]
        wanted = np.max(around, axis=0) * inside
    assert np.array_equal(_largest_in_part(inside, values), wanted)


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
