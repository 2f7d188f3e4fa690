"""MSE, PSNR and SSIM against loops over windows, and closed forms."""

import math

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.errors import BadInput, NonFinite
from sfumato.metrics import mse, psnr, ssim


def image_pair(seed, b=2, h=17, w=23, noise=0.2):
    rng = np.random.default_rng(seed)
    a = rng.random((b, 3, h, w))
    other = np.clip(a + noise * rng.standard_normal(a.shape), 0, 1)
    return torch.from_numpy(a).float(), torch.from_numpy(other).float()


def direct_ssim(a, b, mask=None):
    """Equation 13 of Wang et al. (2004), window by window, straight from the definition."""
    offsets = range(-5, 6)
    window = np.array([[math.exp(-(i * i + j * j) / (2 * 1.5**2)) for j in offsets] for i in offsets])
    window /= window.sum()
    total = weight = 0.0
    for y in range(5, a.shape[1] - 5):
        for x in range(5, a.shape[2] - 5):
            share = 1.0 if mask is None else mask[y, x]
            for channel in range(a.shape[0]):
                p = a[channel, y - 5 : y + 6, x - 5 : x + 6]
                q = b[channel, y - 5 : y + 6, x - 5 : x + 6]
                mu_p, mu_q = (window * p).sum(), (window * q).sum()
                var_p = (window * (p - mu_p) ** 2).sum()
                var_q = (window * (q - mu_q) ** 2).sum()
                cov = (window * (p - mu_p) * (q - mu_q)).sum()
                value = (2 * mu_p * mu_q + 1e-4) * (2 * cov + 9e-4)
                value /= (mu_p**2 + mu_q**2 + 1e-4) * (var_p + var_q + 9e-4)
                total += share * value
                weight += share
    return total / weight


def test_mse_is_the_mean_of_squares():
    a, b = image_pair(0)
    for i in range(2):
        p, q = a[i].double().numpy(), b[i].double().numpy()
        expected = sum((x - y) ** 2 for x, y in zip(p.ravel(), q.ravel(), strict=True)) / p.size
        assert mse(a, b)[i].item() == pytest.approx(expected, rel=1e-12)


@settings(deadline=None)
@given(st.integers(0, 255), st.integers(0, 255))
def test_psnr_of_constant_images_has_a_closed_form(level_a, level_b):
    a, b = (torch.full((1, 3, 4, 5), level / 255, dtype=torch.float64) for level in (level_a, level_b))
    expected = math.inf if level_a == level_b else 20 * math.log10(255 / abs(level_a - level_b))
    assert psnr(a, b).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("noise", [0.02, 0.2, 1.0])
def test_ssim_equals_the_loop_over_windows(noise):
    a, b = image_pair(1, noise=noise)
    expected = [direct_ssim(a[i].double().numpy(), b[i].double().numpy()) for i in range(2)]
    assert ssim(a, b).numpy() == pytest.approx(expected, abs=1e-10)


def test_masked_ssim_weighs_windows_by_their_centre():
    a, b = image_pair(2, b=1)
    mask = torch.zeros(17, 23)
    mask[3:9, 4:11] = 1
    mask[8, 10] = 0.25
    expected = direct_ssim(a[0].double().numpy(), b[0].double().numpy(), mask.numpy())
    assert ssim(a, b, mask).item() == pytest.approx(expected, abs=1e-10)


@settings(deadline=None)
@given(st.integers(0, 255), st.integers(0, 255))
def test_ssim_of_constant_images_is_the_luminance_term(level_a, level_b):
    x, y = level_a / 255, level_b / 255
    value = ssim(torch.full((1, 1, 11, 11), x), torch.full((1, 1, 11, 11), y)).item()
    assert value == pytest.approx((2 * x * y + 1e-4) / (x * x + y * y + 1e-4), abs=1e-6)


def test_equal_images_have_perfect_scores():
    a, _ = image_pair(3)
    assert mse(a, a).tolist() == [0, 0]
    assert psnr(a, a).tolist() == [math.inf, math.inf]
    assert ssim(a, a).tolist() == [1, 1]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.01, 1.0))
def test_all_are_symmetric_and_ssim_is_bounded(seed, noise):
    a, b = image_pair(seed, b=1, h=13, w=12, noise=noise)
    for metric in (mse, psnr, ssim):
        assert metric(a, b).item() == pytest.approx(metric(b, a).item(), rel=1e-12)
    assert -1 <= ssim(a, b).item() <= 1


def test_mask_restricts_the_metric_to_its_area():
    a, b = image_pair(4)
    b[:, :, :, 12:] = a[:, :, :, 12:]
    right = torch.zeros(17, 23)
    right[:, 12:] = 1
    assert mse(a, b, right).tolist() == [0, 0]
    left = mse(a, b, 1 - right)
    assert left.numpy() == pytest.approx(mse(a[..., :12].contiguous(), b[..., :12].contiguous()).numpy())
    assert psnr(a, b, 1 - right).numpy() == pytest.approx(-10 * np.log10(left.numpy()))


def test_each_image_can_have_its_own_mask():
    a, b = image_pair(5)
    masks = torch.zeros(2, 17, 23)
    masks[0, 2:8, 2:8] = 1
    masks[1, 9:, :] = 1
    for metric in (mse, psnr, ssim):
        together = metric(a, b, masks)
        alone = [metric(a[i : i + 1], b[i : i + 1], masks[i]).item() for i in range(2)]
        assert together.numpy() == pytest.approx(alone, rel=1e-12)


def test_full_mask_equals_no_mask():
    a, b = image_pair(6)
    for metric in (mse, psnr, ssim):
        assert metric(a, b, torch.ones(17, 23)).numpy() == pytest.approx(metric(a, b).numpy(), rel=1e-12)


def test_half_precision_is_computed_in_double():
    a, b = image_pair(7)
    for metric in (mse, psnr, ssim):
        assert metric(a.half(), b.half()).dtype == torch.float64
        assert torch.equal(metric(a.half(), b.half()), metric(a.half().double(), b.half().double()))


def test_invalid_input_is_refused():
    a, b = image_pair(8)
    with pytest.raises(BadInput, match=r"0\.\.1"):
        mse(a * 2 - 1, b)
    with pytest.raises(NonFinite, match="second"):
        psnr(a, b * math.nan)
    with pytest.raises(BadInput, match="empty"):
        mse(a, b, torch.zeros(17, 23))
    edge = torch.zeros(17, 23)
    edge[0] = 1
    with pytest.raises(BadInput, match="edge"):
        ssim(a, b, edge)
    with pytest.raises(BadInput, match="mask"):
        mse(a, b, torch.full((17, 23), 2.0))
    with pytest.raises(BadInput, match="11 x 11"):
        ssim(a[..., :10, :], b[..., :10, :])


@pytest.mark.parametrize("metric", [mse, psnr, ssim])
def test_wrong_shapes_are_refused_without_the_type_checker(metric):
    a, b = image_pair(9)
    unchecked = metric
    while hasattr(unchecked, "__wrapped__"):
        unchecked = unchecked.__wrapped__
    with pytest.raises((BadInput, jaxtyping.TypeCheckError)):
        unchecked(a, b[..., :-1])
    with pytest.raises((BadInput, jaxtyping.TypeCheckError)):
        unchecked(a, b, torch.ones(16, 23))
    with pytest.raises((BadInput, jaxtyping.TypeCheckError)):
        unchecked(a[:0], b[:0])
