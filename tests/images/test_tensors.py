"""Pixels to tensors and back, padding to the grid and exact crop."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from images import make
from sfumato.errors import BadInput, NonFinite
from sfumato.images import crop_back, pad_to_grid, read_image, to_tensor, to_uint8


def test_all_levels_round_trip_in_range_minus_one_to_one():
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=-1)
    x = to_tensor(read_image(make.encoded(levels, "PNG")))
    assert x.shape == (1, 3, 16, 16)
    assert (x.dtype, x.min().item(), x.max().item()) == (torch.float32, -1.0, 1.0)
    np.testing.assert_array_equal(to_uint8(x), levels)
    np.testing.assert_array_equal(to_uint8(x[0].double()), levels)


def test_channels_and_axes_have_the_expected_order():
    pixels = make.noise()
    x = to_tensor(read_image(make.encoded(pixels, "PNG")))
    assert x[0, 2, 3, 5].item() == pytest.approx(pixels[3, 5, 2] / 127.5 - 1)
    assert torch.equal(x.add_(1), to_tensor(read_image(make.encoded(pixels, "PNG"))) + 1)  # the tensor is writable


def test_values_are_clipped_and_rounded_to_nearest():
    x = torch.tensor([-3.0, -1.0, 0.5 / 127.5 - 1 - 1e-4, 0.0, 1.0, 7.0]).view(1, 1, 1, 6).expand(1, 3, 1, 6)
    assert to_uint8(x)[0, :, 0].tolist() == [0, 0, 0, 128, 255, 255]


def test_non_finite_values_and_invalid_shapes_are_rejected():
    for value in (torch.nan, torch.inf, -torch.inf):
        x = torch.zeros(1, 3, 4, 4)
        x[0, 1, 2, 3] = value
        with pytest.raises(NonFinite):
            to_uint8(x)
    for shape in ((2, 3, 4, 4), (1, 4, 4, 4), (4, 4)):
        with pytest.raises(BadInput):
            to_uint8(torch.zeros(shape))


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 33))
def test_padding_is_minimal_reflected_and_crops_back_exactly(height, width, multiple):
    x = torch.from_numpy(np.random.default_rng(0).random((2, 3, height, width)))
    padded, padding = pad_to_grid(x, multiple)
    h, w = padded.shape[-2:]
    assert h % multiple == w % multiple == 0
    assert 0 <= h - height < multiple
    assert 0 <= w - width < multiple
    assert torch.equal(crop_back(padded, padding), x)
    expected = np.pad(x.numpy(), ((0, 0), (0, 0), (0, h - height), (0, w - width)), mode="reflect")
    np.testing.assert_array_equal(padded.numpy(), expected)


def test_one_pixel_and_masks_can_be_padded():
    padded, padding = pad_to_grid(torch.full((1, 3, 1, 1), 0.25), 8)
    assert torch.equal(padded, torch.full((1, 3, 8, 8), 0.25))
    assert crop_back(padded, padding).shape == (1, 3, 1, 1)
    mask, padding = pad_to_grid(torch.eye(5), 4)
    assert mask.shape == (8, 8)
    assert torch.equal(crop_back(mask, padding), torch.eye(5))


def test_sizes_on_the_grid_are_not_padded():
    x = torch.rand(1, 3, 16, 24)
    assert pad_to_grid(x, 8)[0] is x


def test_crop_applies_to_other_tensors_of_padded_size():
    _, padding = pad_to_grid(torch.zeros(1, 3, 5, 6), 4)
    assert crop_back(torch.rand(7, 4, 8, 8), padding).shape == (7, 4, 5, 6)


def test_invalid_grids_are_rejected():
    with pytest.raises(BadInput, match="at least 1"):
        pad_to_grid(torch.zeros(1, 3, 4, 4), 0)
    with pytest.raises(BadInput, match="1 x 1"):
        pad_to_grid(torch.zeros(1, 3, 0, 4), 8)
