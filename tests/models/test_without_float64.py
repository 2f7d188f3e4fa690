"""Computations on a device without float64: outputs of networks are on the simulated device, images on the CPU."""

import pytest
import torch

import sfumato
from sfumato.api import reconstructing
from sfumato.core.step import to_float64
from sfumato.metrics import directional_similarity, self_similarity
from sfumato.metrics.clip import cosine
from tests import tiny
from tests.models.without_float64 import WithoutFloat64, moved


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_simulated_device_rejects_float64():
    x = moved(randn(2, 3))
    assert isinstance(2 * x + 1, WithoutFloat64)
    for ask in (x.double, lambda: x.to(torch.float64), lambda: (x * 2).double()):
        with pytest.raises(TypeError, match="float64"):
            ask()
    assert x.cpu().double().dtype == torch.float64
    assert to_float64(x).dtype == torch.float32


def test_feature_metrics_without_float64():
    a, b, c, d = (randn(3, 5, seed=seed) for seed in range(4))
    there = [moved(each) for each in (a, b, c, d)]
    assert torch.equal(directional_similarity(*there), directional_similarity(a, b, c, d))
    assert torch.equal(cosine(there[0], there[1]), cosine(a, b))
    keys = randn(2, 7, 4)
    assert torch.equal(self_similarity(moved(keys)), self_similarity(keys))
    assert self_similarity(keys).dtype == torch.float64


def test_reconstruction_error_without_float64(tiny_sd_folder, monkeypatch):
    inverted = sfumato.load(str(tiny_sd_folder), "cpu").invert(tiny.tiny_image(), "red apple", steps=2, exact=True)
    expected = inverted.reconstruct().report["reconstruction_latent_max_error"]
    follow = reconstructing.following
    decode = reconstructing.decoded

    def followed(*args):
        x0 = yield from follow(*args)
        return moved(x0)

    monkeypatch.setattr(reconstructing, "following", followed)
    monkeypatch.setattr(reconstructing, "decoded", lambda network, x0, size: decode(network, x0.cpu(), size))
    assert inverted.reconstruct().report["reconstruction_latent_max_error"] == pytest.approx(expected, abs=1e-7)
