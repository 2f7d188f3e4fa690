"""Edits at reduced size, upsampled to full size: closed forms, bands, and no remains of replaced content."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sfumato.images import resized, resized_pixels
from sfumato.images.loaded_image import LoadedImage
from sfumato.images.upsampling import NOISE, RIDGE, detail_gain, upsampled_edit

SIZE, SMALL = (96, 128), (24, 32)


def whole(edited, source, original, **options):
    """The full-size result in one tensor; checks that the bands are contiguous."""
    bands = list(upsampled_edit(edited, source, original, **options))
    starts = [rows.start for rows, _ in bands]
    assert starts == [0, *(rows.stop for rows, _ in bands[:-1])]
    assert bands[-1][0].stop == len(original)
    return torch.cat([pixels for _, pixels in bands], dim=1)


def as_tensor(pixels):
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 127.5 - 1


def levels(x):
    return ((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()


def reduced(x, size=SMALL):
    return F.interpolate(x[None], size=size, mode="bicubic", align_corners=False, antialias=True)[0]


@pytest.fixture
def photo():
    """Coarse structure, which the reduced image contains, and fine texture, which it does not contain."""
    rng = np.random.default_rng(0)
    coarse = F.interpolate(torch.from_numpy(rng.normal(0, 0.35, (1, 3, 9, 12))), size=SIZE, mode="bicubic")[0].float()
    fine = torch.from_numpy(rng.normal(0, 0.08, (3, *SIZE))).float()
    return levels((coarse + fine).clamp(-1, 1))


def fine_part(x):
    """The part of an image that its reduced size cannot represent."""
    return x - F.interpolate(reduced(x)[None], size=SIZE, mode="bicubic", align_corners=False)[0]


def texture_left(made, original):
    """Regression of the fine part of a result on that of the original: 1 for all of its texture, 0 for none."""
    a, b = fine_part(made).flatten(), fine_part(original).flatten()
    return float(a @ b / (b @ b))


def test_unchanged_edit_returns_the_original_bit_for_bit(photo):
    source = reduced(as_tensor(photo))
    assert (detail_gain(source, source) == 0).all()
    assert (levels(whole(source, source, photo)) == photo).all()


def test_linear_colour_change_is_applied_to_the_detail(photo):
    matrix = torch.tensor([[0.2, 0.7, 0.0], [0.6, -0.1, 0.3], [0.0, 0.2, 0.8]])
    recolour = lambda x: torch.einsum("ij,jhw->ihw", matrix, x) + torch.tensor([0.1, -0.2, 0.0])[:, None, None]  # noqa: E731
    original = as_tensor(photo)
    made = whole(recolour(reduced(original)), reduced(original), photo)
    wanted = recolour(original)
    plain = (
        original + F.interpolate((recolour(reduced(original)) - reduced(original))[None], size=SIZE, mode="bicubic")[0]
    )
    error, of_plain = (each.square().mean().sqrt() for each in (made - wanted, plain - wanted))
    assert error < 0.2 * of_plain
    assert error < 0.015  # the remaining error of the ridge regression


def test_gain_equals_the_ridge_regression_of_the_change(photo):
    """Against a regression by least squares in one window, for an edit that keeps its contrast."""
    source = reduced(as_tensor(photo)).double()
    rng = torch.Generator().manual_seed(0)
    edited = torch.einsum("ij,jhw->ihw", torch.tensor([[1, 0.3, 0], [0, 0.8, 0.1], [0.2, 0, 0.9]]).double(), source)
    edited = edited + 0.003 * torch.randn(source.shape, generator=rng, dtype=torch.float64)
    gain = detail_gain(edited.float(), source.float())
    expected = torch.zeros(3, 3, 3, 3, dtype=torch.float64)
    for i in range(3):
        for j in range(3):
            window = (slice(None), slice(9 + i, 14 + i), slice(9 + j, 14 + j))
            x, y = source[window].flatten(1), (edited - source)[window].flatten(1)
            x, y = x - x.mean(1, keepdim=True), y - y.mean(1, keepdim=True)
            n = x.shape[1]
            expected[:, :, i, j] = y @ x.T / n @ torch.linalg.inv(x @ x.T / n + RIDGE * torch.eye(3))
    torch.testing.assert_close(gain[:, :, 12, 12].double(), expected.mean(dim=(2, 3)), rtol=2e-3, atol=2e-3)


def test_replaced_content_keeps_no_texture_of_the_original(photo):
    """New content with structure, new content without structure, and a flat area in another colour."""
    original = as_tensor(photo)
    source = reduced(original)
    rng = torch.Generator().manual_seed(1)
    other = reduced(F.interpolate(torch.randn(1, 3, 8, 10, generator=rng) * 0.5, size=SIZE, mode="bicubic")[0])
    smooth = torch.linspace(-0.5, 0.5, SMALL[1]).expand(3, *SMALL).clone()
    for edited in (other, smooth):
        assert texture_left(original + fine_part(original), original) == pytest.approx(2, abs=0.1)
        assert abs(texture_left(whole(edited, source, photo), original)) < 0.12
    rng = np.random.default_rng(2)
    lawn = levels(
        torch.from_numpy(rng.normal(0, 0.1, (3, *SIZE))).float() + torch.tensor([-0.5, 0.2, -0.6])[:, None, None]
    )
    flat = reduced(as_tensor(lawn))
    water = flat * 0 + torch.tensor([-0.7, -0.3, 0.8])[:, None, None]
    assert texture_left(whole(water, flat, lawn), as_tensor(lawn)) < 0.05
    assert texture_left(whole(flat + 0.03, flat, lawn), as_tensor(lawn)) == pytest.approx(1, abs=0.05)


def test_autoencoder_noise_preserves_the_texture(photo):
    original = as_tensor(photo)
    source = reduced(original)
    rng = torch.Generator().manual_seed(3)
    noisy = source + 0.3 * NOISE**0.5 * torch.randn(source.shape, generator=rng)
    assert texture_left(whole(noisy, source, photo), original) == pytest.approx(1, abs=0.1)


def test_the_result_reduces_to_the_edit(photo):
    original = as_tensor(photo)
    source = reduced(original)
    rng = torch.Generator().manual_seed(4)
    edited = source + 0.4 * F.interpolate(torch.randn(1, 3, 6, 8, generator=rng), size=SMALL, mode="bicubic")[0]
    error = (reduced(whole(edited, source, photo)) - edited).square().mean().sqrt()
    assert error < 0.05 * (edited - source).square().mean().sqrt()


def test_band_size_does_not_change_the_result(photo):
    source = reduced(as_tensor(photo))
    edited = source.flip(2) * 0.5
    one = whole(edited, source, photo)
    for band in (1, 5 * SIZE[1], 7 * SIZE[1] + 3):
        torch.testing.assert_close(whole(edited, source, photo, band=band), one, rtol=0, atol=2e-6)


def test_an_edit_at_a_larger_size_is_reduced(photo):
    original = as_tensor(photo)
    large = F.interpolate(original[None], scale_factor=2, mode="bicubic")[0]
    edited = large + torch.tensor([0.2, -0.1, 0.0])[:, None, None]
    made = whole(edited, large, photo)
    torch.testing.assert_close(made, original + torch.tensor([0.2, -0.1, 0.0])[:, None, None], rtol=0, atol=0.02)


def test_resized_image_keeps_the_full_size_image(photo):
    image = LoadedImage(photo, None, photo, None, "RGB", "photo.png", "a note")
    small = resized(image, (32, 24))
    assert (small.size, small.full.size, small.name, small.note) == ((32, 24), (128, 96), "photo.png", "a note")
    assert small.full is image
    assert image.full is image
    assert resized(image, (128, 96)) is image
    assert (small.rgb == resized_pixels(photo, (32, 24))).all()
    assert np.abs(small.rgb.astype(float).mean() - photo.astype(float).mean()) < 1
    assert fine_part(as_tensor(photo)).std() > 5 * (as_tensor(small.rgb) - reduced(as_tensor(photo))).std()
