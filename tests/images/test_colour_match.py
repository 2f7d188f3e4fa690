"""Transfer of colours: the result has the reference's mean and covariance."""

import torch

from sfumato.images.colour_match import match_colours


def colours(seed, b=2, h=9, w=7):
    draw = torch.Generator().manual_seed(seed)
    mixed = torch.randn(b, 3, 3, generator=draw, dtype=torch.float64)
    pixels = torch.randn(b, 3, h * w, generator=draw, dtype=torch.float64)
    return (mixed @ pixels + torch.randn(b, 3, 1, generator=draw, dtype=torch.float64)).reshape(b, 3, h, w) / 4


def moments(pixels):
    return pixels.flatten(2).mean(dim=2), torch.stack([torch.cov(x.flatten(1), correction=0) for x in pixels])


def test_mean_and_covariance_are_those_of_the_reference():
    image, reference = colours(0), colours(1, h=5, w=11)
    for wanted in (reference, reference[:1]):
        for found, expected in zip(moments(match_colours(image, wanted)), moments(wanted), strict=True):
            torch.testing.assert_close(found, expected.expand_as(found), rtol=1e-9, atol=1e-12)


def test_the_map_is_linear_symmetric_and_positive():
    """Which makes it the optimal transport between the two normal distributions."""
    image = colours(0, b=1)
    matched = match_colours(image, colours(1, b=1))
    x, y = ((each - each.mean(dim=(2, 3), keepdim=True)).flatten(2)[0] for each in (image, matched))
    A = torch.linalg.lstsq(x.T, y.T).solution.T
    torch.testing.assert_close(A @ x, y, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(A, A.T, rtol=1e-9, atol=1e-12)
    assert torch.linalg.eigvalsh(A).min() > 0


def test_an_image_with_its_own_colours_stays():
    image = colours(2)
    torch.testing.assert_close(match_colours(image, image), image, rtol=1e-9, atol=1e-12)


def test_images_without_colour_or_contrast_stay_finite():
    grey, reference = colours(3)[:, :1].expand(-1, 3, -1, -1), colours(4)
    matched = match_colours(grey, reference)
    assert torch.isfinite(matched).all()
    torch.testing.assert_close(moments(matched)[0], moments(reference)[0])
    assert torch.linalg.matrix_rank(moments(matched)[1], rtol=1e-6).max() == 1
    flat = match_colours(torch.zeros_like(grey), reference)
    torch.testing.assert_close(flat, moments(reference)[0][:, :, None, None].expand_as(flat))
