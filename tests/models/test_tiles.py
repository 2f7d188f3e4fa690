"""Predictions in overlapping tiles: weights, coverage, and equality for a network that acts on single cells."""

import numpy as np
import pytest
import torch
from PIL import Image

import sfumato
from sfumato.errors import BadInput
from sfumato.models.load import load_model
from sfumato.models.tiles import OVERLAP, TiledModel, _ramp, _starts
from tests.tiny import tiny_image, tiny_inpainting


@pytest.fixture(scope="module")
def network(tiny_sd_folder):
    return load_model(tiny_sd_folder, "cpu")


@pytest.mark.parametrize("side", [8, 64])
@pytest.mark.parametrize("length", [4, 8, 64, 65, 100, 500, 1024])
def test_tiles_cover_all_cells_and_overlap(length, side):
    starts = _starts(length, side)
    assert starts[0] == 0
    assert starts == sorted(set(starts))
    if length <= side:
        assert starts == [0]
        return
    assert starts[-1] + side == length
    steps = np.diff(starts)
    assert (side - steps >= OVERLAP * side).all()
    assert len(starts) <= 2 + (length - side) / (side * (1 - OVERLAP))


def test_weights_decrease_towards_borders_and_are_positive():
    weights = _ramp(8)
    torch.testing.assert_close(weights, torch.tensor([0.5, 1, 1, 1, 1, 1, 1, 0.5]))
    assert (_ramp(1) > 0).all()


def test_small_latents_are_evaluated_without_tiles(network):
    tiled = TiledModel.of(network)
    x, cond = torch.randn(2, 4, 8, 8), network.condition(["a red cat", ""])
    assert torch.equal(tiled.predict(x, 500, cond), network.predict(x, 500, cond))


@pytest.mark.parametrize("size", [(8, 20), (22, 8), (24, 18)])
def test_prediction_is_the_weighted_mean_of_tiles(network, size):
    """The expected value evaluates the tiles one by one."""
    tiled = TiledModel.of(network)
    x, cond = torch.randn(2, 4, *size, generator=torch.Generator().manual_seed(0)), network.condition(["a red cat", ""])
    total, norm = torch.zeros_like(x), torch.zeros(size)
    weight = _ramp(8)[:, None] * _ramp(8)
    for top in _starts(size[0], 8):
        for left in _starts(size[1], 8):
            inside = (..., slice(top, top + 8), slice(left, left + 8))
            total[inside] += weight * network.predict(x[inside], 500, cond)
            norm[inside[1:]] += weight
    with tiled.counting() as count:
        found = tiled.predict(x, torch.tensor([500, 500]), cond)
    torch.testing.assert_close(found, total / norm, rtol=0, atol=2e-5)
    assert count.samples == 2 * len(_starts(size[0], 8)) * len(_starts(size[1], 8))
    assert network.count == tiled.count


def test_maps_are_cut_like_the_latents(tmp_path):
    """Each tile equals the prediction with the part of the maps at its place, for two rows with different maps."""
    network = load_model(tiny_inpainting(tmp_path / "m"), "cpu")
    x, maps = (torch.randn(2, n, 8, 14, generator=torch.Generator().manual_seed(n)) for n in (4, 5))
    total, norm, weight = torch.zeros_like(x), torch.zeros(8, 14), _ramp(8)[:, None] * _ramp(8)
    for left in _starts(14, 8):
        inside = (..., slice(left, left + 8))
        cond = network.condition(["a red cat", ""], maps=maps[inside])
        total[inside] += weight * network.predict(x[inside], 500, cond)
        norm[inside] += weight
    found = TiledModel.of(network).predict(x, 500, network.condition(["a red cat", ""], maps=maps))
    torch.testing.assert_close(found, total / norm, rtol=0, atol=2e-5)


def test_pointwise_network_gives_the_untiled_result(network, monkeypatch):
    tiled = TiledModel.of(network)
    monkeypatch.setattr(type(network), "_forward", lambda self, x, t, cond: x.sin() * 0.3)
    x = torch.randn(1, 4, 30, 14)
    torch.testing.assert_close(tiled.predict(x, 500, None), x.sin() * 0.3, rtol=0, atol=1e-6)


def test_taps_are_refused(network):
    with pytest.raises(BadInput, match="tiles do not support methods"):
        TiledModel.of(network).predict(torch.randn(1, 4, 24, 24), 500, network.condition(["cat"]), [object()])


def test_an_edit_in_tiles(tiny_sd_folder, tmp_path):
    model, photo = sfumato.load(tiny_sd_folder, "cpu"), tiny_image(64, 40)
    inverted = model.invert(photo, "red cat", steps=4, exact=True, resolution="full", tiles=True)
    result = inverted.edit("blue dog", skip=1)
    assert result.pixels[0].shape == (40, 64, 3)
    assert (result.recipes[0]["resolution"], result.recipes[0]["tiles"]) == ("full", True)
    assert inverted.reconstruct().report["reconstruction_latent_max_error"] < 1e-5
    assert type(model.network) is not TiledModel
    untiled = model.invert(photo, "red cat", steps=4, resolution="full").edit("blue dog", skip=1)
    assert (untiled.pixels[0] != result.pixels[0]).any()
    inverted.save(tmp_path / "tiled.safetensors")
    again = model.open(tmp_path / "tiled.safetensors").edit("blue dog", skip=1)
    assert (again.pixels[0] == result.pixels[0]).all()
    mask = np.zeros((40, 64), np.uint8)
    mask[10:30, 10:30] = 255
    made = inverted.edit("blue dog", skip=1, mask=Image.fromarray(mask)).pixels[0]
    assert (made[mask == 0] == np.asarray(photo)[mask == 0]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resolution": None}, "give resolution full"),
        ({"resolution": "native"}, "give resolution full"),
        ({"methods": "prompt-to-prompt"}, "prompt-to-prompt: tiles do not support"),
        ({"methods": "pix2pix-zero", "inversion": "edit-friendly"}, "pix2pix-zero: tiles do not support"),
        ({"methods": "pullback"}, "pullback: tiles do not support"),
        ({"methods": "pullback", "kind": "random"}, "pullback: tiles do not support"),
        ({"mask_words": "cat"}, "not for edits in tiles"),
    ],
)
def test_unsupported_tile_options_are_rejected_before_evaluation(tiny_sd_folder, options, message):
    model = sfumato.load(tiny_sd_folder, "cpu")
    with model.network.counting() as count, pytest.raises(BadInput, match=message):
        model.plan(
            tiny_image(64, 40), "red cat", "blue dog", **{"resolution": "full", "tiles": True, "steps": 4} | options
        )
    assert count.samples == 0


def test_autoencoder_uses_tiles_for_large_images(network, monkeypatch):
    """Equal to diffusers' enable_tiling, but without changing the module, which all threads share."""
    from sfumato.models import codec

    pixels = torch.rand(1, 3, 96, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    whole = network.encode(pixels)
    monkeypatch.setattr(codec, "LARGE", 96 * 64 - 1)
    monkeypatch.setattr(codec, "TILE", 32)
    latents = network.encode(pixels)
    decoded = network.decode(whole)
    module = network.codec.module
    assert not module.use_tiling
    before = module.tile_sample_min_size, module.tile_latent_min_size
    try:
        module.enable_tiling()
        module.tile_sample_min_size, module.tile_latent_min_size = 32, 8
        assert torch.equal(latents, module.encode(pixels).latent_dist.mode() * network.codec.scale)
        assert torch.equal(decoded, module.decode(whole / network.codec.scale).sample)
    finally:
        module.disable_tiling()
        module.tile_sample_min_size, module.tile_latent_min_size = before
    assert not torch.equal(latents, whole)
    monkeypatch.setattr(codec, "LARGE", 96 * 64)
    assert torch.equal(network.encode(pixels), whole)
