"""Attention control on the shipped model: its maps, its layers, edits that hold."""

import numpy as np
import pytest
import torch
from PIL import Image

import sfumato
from sfumato.examples import examples
from sfumato.models.attention import Layers, RecordMaps, ReplaceMaps
from sfumato.models.layout import decoder, word_layers
from sfumato.models.load import load_model
from tests.explicit import explicit


@pytest.fixture(scope="module")
def model() -> sfumato.Model:
    return sfumato.load("emoji")


def test_maps_are_the_layers_own():
    """In float64, where fused and explicit attention round alike."""
    network = load_model("emoji", "cpu")
    torch.nn.Module.to(network.unet, torch.float64)
    x = torch.randn(2, 4, 16, 24, generator=torch.Generator().manual_seed(0))
    given = x, 500, network.condition(["red cat", ""])
    record, itself = RecordMaps(Layers()), ReplaceMaps(Layers(), lambda name, maps: maps.clone())
    with torch.no_grad():
        plain = network.predict(*given, taps=[record])
        assert torch.equal(plain, network.predict(*given))
        assert torch.equal(plain, network.predict(*given, taps=[itself]))
        with explicit(network, lambda name, maps: maps) as maps:
            network.predict(*given)
    assert set(record.maps) == set(maps)
    assert all(torch.allclose(record.maps[name], maps[name], atol=1e-9) for name in maps)


def test_its_layers(model):
    """Three levels: Plug-and-Play's layer 4 of 12 is layer 2 of 6, words are looked for at half the latents' size."""
    layers = decoder(model.network.unet)
    assert [layer.residual for layer in layers][2] == "up_blocks.1.resnets.0.conv2"
    assert all(len(layer.self_attention) == 1 for layer in layers)
    assert word_layers(model.network.unet, (16, 16))[1] == (8, 8)


@pytest.mark.parametrize("method", ["prompt-to-prompt", "plug-and-play"])
def test_a_null_edit_is_the_image_and_an_edit_is_none(model, method):
    example = examples()[0]
    inverted = model.invert(example.path, example.source, method=method, steps=6, source_guidance_scale=1.0)
    null = inverted.edit(example.source, guidance_scale=1.0, skip=0)
    source = np.asarray(Image.open(example.path).convert("RGB")).astype(int)
    assert abs(null.pixels[0] - source).max() <= 1
    assert abs(inverted.edit(example.target, guidance_scale=5.0, skip=0).pixels[0] - source).mean() > 1
