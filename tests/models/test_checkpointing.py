"""Taps in networks with gradient checkpointing: the gradients are those without checkpointing."""

import pytest
import torch

from sfumato.models.attention import Layers, RecordMaps, ReplaceMaps
from sfumato.models.checkpointing import block_around
from sfumato.models.load import load_model
from sfumato.models.taps import Record, Replace
from tests.tiny import LAYOUTS

TAPS = {
    "residual block": lambda: Replace("up_blocks.*.resnets.*", lambda h: h * h.sigmoid()),
    "in a residual block": lambda: Replace("up_blocks.*.resnets.*.conv1", lambda h: h * h.sigmoid()),
    "queries and keys": lambda: Replace(("**.to_q", "**.to_k"), lambda h: h.flip(1).exp()),
    "maps": lambda: ReplaceMaps(Layers(), lambda name, maps: (2 * maps).softmax(dim=-1)),
    "middle block": lambda: Replace("mid_block", lambda h: h * h.sigmoid()),
}


@pytest.fixture(params=["sd", "sdxl", "ddpm"])
def model(tiny_folder, request):
    assert request.param in LAYOUTS
    return load_model(str(tiny_folder(request.param)), "cpu")


@pytest.fixture
def asked(model):
    shape = (2, model.latent_channels, 8, 12)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return x, 500, model.condition(["red apple", ""] if model.takes_text else ["", ""])


def gradient(model, asked, *taps):
    """The gradient of a value of the predicted noise and of what two more taps read."""
    x, t, condition = asked
    x, maps, features = x.clone().requires_grad_(), RecordMaps(Layers()), Record("up_blocks.*.resnets.*")
    eps = model.predict(x, t, condition, [*taps, maps, features])
    read = [*maps.maps.values(), *features.outputs.values()]
    return torch.autograd.grad(sum(each.square().sum() for each in [eps, *read]), x)[0]


@pytest.mark.parametrize("name", TAPS)
def test_gradients_with_replaced_outputs(model, asked, name):
    plain = gradient(model, asked, TAPS[name]())
    assert not torch.equal(plain, gradient(model, asked))
    model.unet.enable_gradient_checkpointing()
    assert torch.equal(gradient(model, asked, TAPS[name]()), plain)


def test_a_block_left_by_an_exception_keeps_nothing_afterwards(model, asked):
    plain = gradient(model, asked)
    model.unet.enable_gradient_checkpointing()

    def fail(h):
        raise ZeroDivisionError

    for name in ("conv2", "time_emb_proj"):
        with pytest.raises(ZeroDivisionError):
            gradient(model, asked, TAPS["in a residual block"](), Replace(f"up_blocks.0.resnets.1.{name}", fail))
    packed = []
    with torch.autograd.graph.saved_tensors_hooks(lambda saved: packed.append(saved) or saved, lambda saved: saved):
        asked[0].clone().requires_grad_().exp()
    assert len(packed) == 1
    assert torch.equal(gradient(model, asked), plain)


def test_blocks_are_those_of_diffusers(model):
    model.unet.enable_gradient_checkpointing()
    assert block_around(model.unet, "up_blocks.0.resnets.1.conv2") == "up_blocks.0.resnets.1"
    assert block_around(model.unet, "up_blocks.0.resnets.1") == "up_blocks.0.resnets.1"
    assert block_around(model.unet, "mid_block") is None
    for name, module in model.unet.named_modules():
        if type(module).__name__ == "BasicTransformerBlock":
            assert block_around(model.unet, f"{name}.attn1.to_q") == name
    model.unet.disable_gradient_checkpointing()
    assert block_around(model.unet, "up_blocks.0.resnets.1.conv2") is None
