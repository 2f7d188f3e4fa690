"""Transfer of colours: the result has the reference's mean and covariance."""

import numpy as np
import torch

from sfumato.api.finish import weights_at
from sfumato.images import Mask
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


def test_map_is_linear_symmetric_and_positive_definite():
    """Such a map is the optimal transport between two normal distributions."""
    image = colours(0, b=1)
    matched = match_colours(image, colours(1, b=1))
    x, y = ((each - each.mean(dim=(2, 3), keepdim=True)).flatten(2)[0] for each in (image, matched))
    A = torch.linalg.lstsq(x.T, y.T).solution.T
    torch.testing.assert_close(A @ x, y, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(A, A.T, rtol=1e-9, atol=1e-12)
    assert torch.linalg.eigvalsh(A).min() > 0


def test_image_as_its_own_reference_is_unchanged():
    image = colours(2)
    torch.testing.assert_close(match_colours(image, image), image, rtol=1e-9, atol=1e-12)


def test_images_without_colour_or_contrast_give_finite_results():
    grey, reference = colours(3)[:, :1].expand(-1, 3, -1, -1), colours(4)
    matched = match_colours(grey, reference)
    assert torch.isfinite(matched).all()
    torch.testing.assert_close(moments(matched)[0], moments(reference)[0])
    assert torch.linalg.matrix_rank(moments(matched)[1], rtol=1e-6).max() == 1
    flat = match_colours(torch.zeros_like(grey), reference)
    torch.testing.assert_close(flat, moments(reference)[0][:, :, None, None].expand_as(flat))


def test_weights_select_the_pixels_of_both_moments():
    image, reference = colours(5), colours(6, b=1)
    w, v = torch.rand(2, 1, 1, 9, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    w[..., :4] = 0
    matched = match_colours(image, reference, inside=w, inside_references=v)
    wanted, weights = reference[0].flatten(1).numpy(), v.flatten().numpy()
    for found in matched.flatten(2).numpy():
        np.testing.assert_allclose(
            np.average(found, axis=1, weights=w.flatten()), np.average(wanted, axis=1, weights=weights), atol=1e-9
        )
        covariance = np.cov(found, aweights=w.flatten().numpy(), bias=True)
        np.testing.assert_allclose(covariance, np.cov(wanted, aweights=weights, bias=True), atol=1e-9)
    alone = match_colours(image[..., 4:], reference, inside=w[..., 4:], inside_references=v)
    torch.testing.assert_close(matched[..., 4:], alone, rtol=1e-9, atol=1e-12)


def test_resized_mask_has_the_mean_weights():
    draw = np.random.default_rng(0).random((12, 8), np.float32)
    assert weights_at([None, None], (4, 3)) is None
    found = weights_at([Mask(draw), None], (4, 3)).numpy()
    np.testing.assert_allclose(found[0, 0], draw.reshape(3, 4, 4, 2).mean((1, 3)), rtol=1e-6)
    assert (found[1] == 1).all()
    assert np.array_equal(weights_at([Mask(draw)], (8, 12))[0, 0], draw)
