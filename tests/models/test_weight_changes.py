"""Changes of weights that belong to a condition: equality with a network whose weights are changed."""

import threading
from dataclasses import replace

import pytest
import torch

from sfumato.core.condition import Condition
from sfumato.errors import BadInput
from sfumato.geometry import BottleneckMap
from sfumato.geometry.basis import local_basis
from sfumato.models.attention import Layers, RecordMaps
from sfumato.models.encoder_half import EncoderHalf
from sfumato.models.load import load_model
from sfumato.models.taps import Record, Replace
from sfumato.models.tiles import TiledModel
from tests.tiny import fused

LAYER = "up_blocks.1.attentions.0.transformer_blocks.0.attn2"
NAMES = (f"{LAYER}.to_k", f"{LAYER}.to_v", "mid_block.attentions.0.transformer_blocks.0.attn1.to_q")


@pytest.fixture(scope="module")
def network(tiny_sd_folder):
    return load_model(str(tiny_sd_folder))


@pytest.fixture(scope="module")
def changes(network):
    draw = torch.Generator().manual_seed(0)
    return {name: torch.randn(network.unet.get_submodule(name).weight.shape, generator=draw) / 3 for name in NAMES}


@pytest.fixture(scope="module")
def x(network):
    return torch.randn(2, network.latent_channels, 8, 8, generator=torch.Generator().manual_seed(1))


def conditions(network, changes):
    """The condition with the changes, and without."""
    plain = network.condition(["a red cat", "dog"])
    return replace(plain, weight_changes=changes), plain


def test_predictions_features_and_maps_are_those_of_changed_weights(network, changes, x):
    changed, plain = conditions(network, changes)

    def evaluated(condition):
        maps, features = RecordMaps(Layers(LAYER)), Record("mid_block")
        eps = network.predict(x, 500, condition, [maps, features])
        return eps, maps.maps[LAYER], features.output, network.bottleneck(x, 500, condition)

    before, found = evaluated(plain), evaluated(changed)
    with fused(network.unet, changes):
        wanted = evaluated(plain)
    for one, other, unchanged in zip(found, wanted, before, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
        assert (other - unchanged).abs().max() > 1e-3
    assert all(map(torch.equal, before, evaluated(plain))), "the network is as before"


def test_changes_are_used_in_tiles_and_for_all_rows(network, changes):
    large = torch.randn(2, network.latent_channels, 24, 8, generator=torch.Generator().manual_seed(1))
    changed, plain = conditions(network, changes)
    tiled, each = TiledModel.of(network), torch.tensor([500, 400])
    found = tiled.predict(large, each, changed)
    with fused(network.unet, changes):
        torch.testing.assert_close(found, tiled.predict(large, each, plain), rtol=1e-4, atol=1e-5)
    assert (found - tiled.predict(large, each, plain)).abs().max() > 1e-3


@torch.no_grad()
def test_changes_are_used_in_the_decoder_half_alone(network, changes, x):
    """An evaluation that reuses the encoder half equals a complete one; other changes do not reuse it."""
    changed, plain = conditions(network, changes)
    move = Replace("mid_block", lambda h: h + 0.5)
    half = EncoderHalf()
    network.predict(x, 500, changed, [half])
    assert half.of(network.unet, x, 500, changed, [move])
    found = network.predict(x, 500, changed, [half, move])
    assert torch.equal(found, network.predict(x, 500, changed, [move]))
    assert not half.of(network.unet, x, 500, plain, [move])


def test_tangent_vectors_are_those_of_changed_weights(network, changes, x):
    changed, plain = conditions(network, changes)
    found = local_basis(BottleneckMap(network, 500, changed), x, 2)
    with fused(network.unet, changes):
        wanted = local_basis(BottleneckMap(network, 500, plain), x, 2)
    torch.testing.assert_close(found.values, wanted.values, rtol=1e-3, atol=1e-6)
    assert (found.values - local_basis(BottleneckMap(network, 500, plain), x, 2).values).abs().max() > 1e-4


def test_gradients_reach_the_changes(network, changes, x):
    learnt = {name: change.clone().requires_grad_() for name, change in changes.items()}
    network.predict(x, 500, conditions(network, learnt)[0]).square().sum().backward()
    assert all(change.grad.abs().sum() > 0 for change in learnt.values())


def test_other_threads_see_the_unchanged_network(network, changes, x):
    changed, plain = conditions(network, changes)
    wanted, found = network.predict(x, 500, plain), []
    inside, finished = threading.Event(), threading.Event()

    def wait(h):
        inside.set()
        finished.wait(60)

    worker = threading.Thread(
        target=lambda: network.predict(x, 500, changed, [Replace("mid_block", lambda h: (wait(h), h)[1])])
    )
    worker.start()
    inside.wait(60)
    found.append(network.predict(x, 500, plain))
    finished.set()
    worker.join()
    assert torch.equal(found[0], wanted)


def test_conditions_keep_their_changes(network, changes):
    changed, plain = conditions(network, changes)
    for each in (changed[1], changed.repeat(2), changed.to("cpu"), Condition.cat([changed, changed])):
        assert list(each.weight_changes) == list(NAMES)
    with pytest.raises(BadInput, match="different changes"):
        Condition.cat([changed, plain])


def test_unknown_layers_are_refused(network, x):
    with pytest.raises(BadInput, match="names no module"):
        network.predict(x, 500, conditions(network, {"nosuch.to_k": torch.zeros(2, 2)})[0])


def test_gradients_are_equal_with_gradient_checkpointing(network, changes, x):
    """Checkpointing computes blocks again without the hooks that add the changes."""
    changed, _ = conditions(network, {name: each.clone().requires_grad_() for name, each in changes.items()})

    def gradients():
        own = x.clone().requires_grad_()
        value = network.predict(own, 500, changed).square().sum()
        return torch.autograd.grad(value, [own, *changed.weight_changes.values()])

    plain = gradients()
    network.unet.enable_gradient_checkpointing()
    try:
        found = gradients()
    finally:
        network.unet.disable_gradient_checkpointing()
    assert all(map(torch.equal, plain, found))
