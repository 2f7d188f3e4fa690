"""Properties of attention maps against closed forms, and the warp against shifted, scaled and rotated objects."""

import pytest
import torch
from torch.nn import functional as F

from sfumato.shifts.energy.maps import (
    centroid,
    coordinates,
    hard_mask,
    normalised,
    share_inside,
    size,
    soft_mask,
    warped,
)
from sfumato.shifts.energy.warp import Warp


def box(left, top, right, bottom, side=16):
    """A map that is 1 in a box of cells."""
    A = torch.zeros(1, 1, side, side, dtype=torch.float64)
    A[..., top:bottom, left:right] = 1
    return A


@pytest.mark.parametrize("edges", [(2, 3, 6, 5), (0, 0, 16, 16), (15, 15, 16, 16)])
def test_centroid_of_a_box_is_its_centre(edges):
    left, top, right, bottom = edges
    wanted = torch.tensor([[(left + right) / 32, (top + bottom) / 32]], dtype=torch.float64)
    torch.testing.assert_close(centroid(box(*edges)), wanted)
    torch.testing.assert_close(centroid(7 * box(*edges)), wanted)


def test_x_is_to_the_right_and_y_is_down():
    """Public reimplementations return (x, x) here."""
    A = torch.zeros(1, 1, 16, 16)
    A[0, 0, 2, 11] = 1
    assert centroid(A)[0].tolist() == pytest.approx([11.5 / 16, 2.5 / 16])
    assert coordinates(torch.zeros(1, 1, 2, 4)).tolist() == [
        [[0.125, 0.375, 0.625, 0.875]] * 2,
        [[0.25] * 4, [0.75] * 4],
    ]


def test_zero_map_has_a_finite_centroid_and_gradient():
    A = torch.zeros(2, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    found = centroid(A)
    assert found.tolist() == [[0.5, 0.5]] * 2
    (gradient,) = torch.autograd.grad((found.sum() + size(A).sum()), A)
    assert bool(torch.isfinite(gradient).all())


def test_masks_and_size():
    A = box(2, 2, 6, 10) * 3 + 1
    assert torch.equal(hard_mask(A), box(2, 2, 6, 10))
    assert (soft_mask(A) - box(2, 2, 6, 10)).abs().max() < 0.01
    assert size(A).item() == pytest.approx(32 / 256, abs=0.01)
    assert normalised(A).amax() == pytest.approx(1, abs=1e-3)
    assert not hard_mask(torch.full((1, 1, 4, 4), 0.3)).any()


@pytest.mark.parametrize(("right", "down"), [(0.25, 0.0), (-0.125, 0.25), (0, -0.0625)])
def test_warp_moves_a_mask(right, down):
    mask = box(4, 6, 9, 9)
    columns, rows = round(right * 16), round(down * 16)
    found = warped(mask, Warp(right=right, down=down), centroid(mask))
    torch.testing.assert_close(found, mask.roll((rows, columns), dims=(2, 3)))


def test_warp_fills_from_outside_with_zeros():
    mask = box(0, 0, 16, 16)
    found = warped(mask, Warp(right=0.5), centroid(mask))
    assert found[..., :8].abs().max() == 0
    assert found[..., 8:].min() == 1


def test_warp_scales_about_the_centroid():
    mask = box(6, 6, 10, 10)
    found = warped(mask, Warp(width=2, height=2), centroid(mask))
    torch.testing.assert_close(found.round(), box(4, 4, 12, 12))
    wide = warped(mask, Warp(width=2), centroid(mask))
    torch.testing.assert_close(wide.round(), box(4, 6, 12, 10))
    assert Warp(width=2, height=0.5).area == 1


@pytest.mark.parametrize("shape", [(16, 16), (12, 20)])
def test_warp_rotates_clockwise_in_cells(shape):
    mask = torch.zeros(1, 1, *shape, dtype=torch.float64)
    mask[..., shape[0] // 2 - 1 : shape[0] // 2 + 1, shape[1] // 2 : shape[1] // 2 + 4] = (
        1  # to the right of the centre
    )
    centre = torch.full((1, 2), 0.5, dtype=torch.float64)
    found = warped(mask, Warp(angle=90), centre)
    down = torch.zeros_like(mask)
    down[..., shape[0] // 2 : shape[0] // 2 + 4, shape[1] // 2 - 1 : shape[1] // 2 + 1] = 1  # below the centre
    torch.testing.assert_close(found.round(), down)


@pytest.mark.parametrize(
    "warp",
    [
        Warp(right=0.25),
        Warp(right=0.6, down=-0.4),
        Warp(width=3, height=2, right=-0.2),
        Warp(angle=30, width=4, height=1.5),
        Warp(right=0.99),
    ],
)
def test_share_inside_equals_that_of_the_warped_mask_on_a_larger_map(warp):
    """In the middle of a map of five times the width and height, nothing of the warped mask is cut off."""
    side, mask = 20, box(2, 6, 13, 17, side=20)
    large = F.pad(mask, (2 * side,) * 4)
    scaled = Warp(warp.right / 5, warp.down / 5, warp.width, warp.height, warp.angle)
    moved = warped(large, scaled, centroid(large))
    within = moved[..., 2 * side : 3 * side, 2 * side : 3 * side].sum() / moved.sum()
    torch.testing.assert_close(share_inside(mask, warp, centroid(mask)), within[None], rtol=0, atol=0.06)


def test_share_inside_at_another_place_and_of_an_empty_mask():
    masks = torch.cat([box(0, 0, 4, 4), box(0, 0, 0, 0)])
    at = torch.tensor([[0.0, 0.5], [0.0, 0.5]], dtype=torch.float64)
    assert share_inside(masks, Warp(), centroid(masks), at).tolist() == [0.5, 1]
    assert share_inside(masks, Warp(), centroid(masks)).tolist() == [1, 1]


def test_identity_warp_changes_nothing():
    mask = (F.avg_pool2d(torch.rand(2, 1, 18, 18, dtype=torch.float64), 3, stride=1) > 0.5).double()
    torch.testing.assert_close(warped(mask, Warp(), centroid(mask)), mask)
