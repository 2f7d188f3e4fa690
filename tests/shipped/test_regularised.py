"""Regularised inversion on the shipped model: its noise passes the tests of normality that plain DDIM's does."""

import pytest
import torch

import sfumato
from sfumato.examples import examples
from tests.exact.test_regularised import not_normal

pytestmark = pytest.mark.slow


def kurtosis(noise):
    centred = noise - noise.mean(dim=(1, 2, 3), keepdim=True)
    return centred.pow(4).mean(dim=(1, 2, 3)) / centred.square().mean(dim=(1, 2, 3)).square()


def test_the_noise_is_closer_to_normal_than_plain_ddims():
    some = examples()
    model = sfumato.load("emoji", device="cpu")
    found = {}
    for inversion in ("ddim", "regularised"):
        inverted = model.invert(
            [e.path for e in some], [e.source for e in some], method="pix2pix-zero", inversion=inversion, steps=20
        )
        x = torch.cat([group.inversion.x[0] for group in inverted.groups])
        found[inversion] = not_normal(x) | {"kurtosis": float((kurtosis(x) - 3).abs().mean())}
    ours, plain = found["regularised"], found["ddim"]
    for name in ("mean", "variance", "autocorrelation"):
        assert ours[name] < plain[name], name
    # no loss is about the fourth moment: it follows from the whiteness
    assert ours["kurtosis"] < 1.1 * plain["kurtosis"]
