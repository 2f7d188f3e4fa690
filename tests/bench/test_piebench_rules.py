"""Resizing and SSIM as in the libraries that PIE-Bench's code calls, at 512 pixels, against explicit computations."""

import numpy as np
import pytest
import torch

from sfumato.bench.piebench_metrics import PUBLISHED, VERSIONS, ssim_with_border, structure_of_levels
from sfumato.errors import BadInput
from sfumato.metrics import VisionEncoder, ssim
from tests.metrics import encoders

SIDE = 512


@pytest.fixture(scope="module", params=[224, 144])
def encoder(request, tmp_path_factory, monkeypatch_module):
    """A random ViT of a published size, with large patches so that it is fast."""
    monkeypatch_module.setitem(encoders.SMALL, "image_size", request.param)
    monkeypatch_module.setitem(encoders.SMALL, "patch_size", 16)
    folder = tmp_path_factory.mktemp("vit")
    encoders.save("vit", folder)
    return VisionEncoder(folder)


@pytest.fixture(scope="module")
def monkeypatch_module():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def images():
    return encoders.image_pair(seed=3, b=2, h=SIDE, w=SIDE)


def triangle(size, wanted, antialias):
    """[wanted, size]: the bilinear weights of all input pixels, from the definition of the filter.

    Half the width of the triangle is one output pixel with antialiasing and one input pixel without. The triangle is
    centred on the output pixel, and the weights are normalised.
    """
    scale = size / wanted
    width = max(scale, 1.0) if antialias else 1.0
    weights = np.zeros((wanted, size))
    for i in range(wanted):
        centre = scale * (i + 0.5)
        if not antialias:
            centre = min(max(centre, 0.5), size - 0.5)  # replicated borders
        for j in range(size):
            weights[i, j] = max(0.0, 1 - abs(j + 0.5 - centre) / width)
    return weights / weights.sum(axis=1, keepdims=True)


def by_hand(encoder, a, b, antialias):
    """The structure distance of the official code, with explicit resizing and cosine similarities."""
    matrices = []
    for x in (a, b):
        levels = np.asarray(x, dtype=np.float64) * 255
        rows, columns = (triangle(SIDE, wanted, antialias) for wanted in encoder.size)
        small = torch.from_numpy(rows @ levels @ columns.T).float()
        keys = encoder.keys(2 * small - 1)  # (levels - mean) / std
        norm = keys.norm(dim=2, keepdim=True)
        matrices.append(keys @ keys.mT / (norm @ norm.mT).clamp(min=1e-8))
    return (matrices[0] - matrices[1]).square().mean(dim=(1, 2))


@pytest.mark.parametrize("antialias", [True, False])
def test_structure_distance_equals_that_of_explicit_resizing(encoder, images, antialias):
    found = structure_of_levels(encoder, *images, antialias=antialias)
    expected = by_hand(encoder, *images, antialias)
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=2e-3)
    other = by_hand(encoder, *images, not antialias)
    assert (abs(found - other) > 0.05 * other).all()


def test_ssim_with_and_without_border_equals_the_definition(images):
    """The SSIM map of the reflection-padded image: cropped by torchmetrics up to 1.4.1, complete from 1.4.2."""
    a, b = (np.asarray(x[:1, :1, :96, :], dtype=np.float64) for x in images)  # one channel, fewer rows: quick
    offsets = np.arange(-5, 6)
    line = np.exp(-(offsets**2) / (2 * 1.5**2))
    line /= line.sum()

    def mean(x):
        padded = np.pad(x[0, 0], 5, mode="reflect")
        padded = sum(w * padded[k : k + x.shape[2]] for k, w in enumerate(line))
        return sum(w * padded[:, k : k + x.shape[3]] for k, w in enumerate(line))

    mu_a, mu_b = mean(a), mean(b)
    var_a, var_b, cov = mean(a * a) - mu_a**2, mean(b * b) - mu_b**2, mean(a * b) - mu_a * mu_b
    full = (2 * mu_a * mu_b + 1e-4) * (2 * cov + 9e-4) / ((mu_a**2 + mu_b**2 + 1e-4) * (var_a + var_b + 9e-4))
    a, b = torch.from_numpy(a), torch.from_numpy(b)
    assert ssim(a, b).item() == pytest.approx(full[5:-5, 5:-5].mean(), abs=1e-12)
    assert ssim_with_border(a, b).item() == pytest.approx(full.mean(), abs=1e-12)
    assert full.mean() != pytest.approx(full[5:-5, 5:-5].mean(), abs=1e-5)


def test_ssim_with_border_refuses_images_smaller_than_the_padding():
    a = torch.rand(1, 3, 6, 8)
    assert ssim_with_border(a, a).item() == pytest.approx(1)
    with pytest.raises(BadInput, match="at least 6 x 6 pixels, not 8 x 5"):
        ssim_with_border(a[:, :, :5], a[:, :, :5])


def test_both_library_versions_are_reported():
    assert len(PUBLISHED) == 8
    assert set(VERSIONS) == {"structure_distance_without_antialias", "ssim_unedit_part_with_border"}
    assert not VERSIONS.keys() & PUBLISHED.keys()
