"""A second evaluation that shares the encoder half equals a complete one, bit for bit, and runs only the decoder."""

import pytest
import torch

from sfumato.core.condition import Condition
from sfumato.hooks import attach_hook
from sfumato.models.attention import Layers, ReplaceMaps
from sfumato.models.encoder_half import EncoderHalf
from sfumato.models.load import load_model
from sfumato.models.taps import Record, Replace


@pytest.fixture(scope="module")
def model(layout_folder):
    return load_model(str(layout_folder))


@pytest.fixture
def inputs(model):
    x = torch.randn(2, *model.latent_shape(*model.native_size), generator=torch.Generator().manual_seed(0))
    condition = model.condition(["red cat", "blue dog"] if model.takes_text else ["", ""])
    return x, 500, condition


@pytest.fixture
def encoder_runs(model):
    """One entry per run of the encoder, recorded at its first convolution."""
    runs = []
    handle = attach_hook(model.unet.conv_in, lambda *_: runs.append(1))
    yield runs
    handle.remove()


def moved(name="mid_block", by=0.3):
    return Replace(name, lambda output: output + by)


FURTHER = {
    "the middle block": lambda: [moved()],
    "the middle block twice": lambda: [moved(), moved(by=-0.1)],
    "the decoder": lambda: [moved("up_blocks.0.resnets.0"), moved("up_blocks.1")],
    "both": lambda: [moved("up_blocks.0"), moved()],
}


@torch.no_grad()
@pytest.mark.parametrize("first", [[], [("mid_block", 0.2)], [("down_blocks.0", 0.1), ("up_blocks.1", 0.1)]], ids=str)
@pytest.mark.parametrize("further", FURTHER)
def test_shared_encoder_equals_a_complete_evaluation(model, inputs, encoder_runs, first, further):
    half, own, more = EncoderHalf(), [moved(*each) for each in first], FURTHER[further]()
    plain = model.predict(*inputs, [half, *own])
    with model.counting() as count:
        second = model.predict(*inputs, [half, *own, *more])
    assert len(encoder_runs) == 1
    assert (count.calls, count.samples) == (1, 2)
    assert torch.equal(plain, model.predict(*inputs, own))
    assert torch.equal(second, model.predict(*inputs, [*own, *more]))
    assert not torch.equal(second, plain)


@torch.no_grad()
def test_attention_maps_of_the_decoder_are_replaced(model, inputs, encoder_runs):
    half, own = EncoderHalf(), [ReplaceMaps(Layers("up_blocks.**"), lambda name, maps: maps.roll(1, dims=-1))]
    model.predict(*inputs, [half])
    second = model.predict(*inputs, [half, *own])
    assert len(encoder_runs) == 1
    assert torch.equal(second, model.predict(*inputs, own))


@torch.no_grad()
def test_record_contains_the_replaced_output(model, inputs):
    half, first, second = EncoderHalf(), Record("mid_block"), Record("mid_block")
    model.predict(*inputs, [half, first])
    model.predict(*inputs, [half, first, moved(), second])
    assert torch.equal(second.output, first.output + 0.3)


OTHER = {
    "latent": lambda x, t, c: (x + 0.1, t, c),
    "timestep": lambda x, t, c: (x, t - 1, c),
    "condition": lambda x, t, c: (x, t, c[[1, 0]]),
    "number of rows": lambda x, t, c: (x.repeat(2, 1, 1, 1), t, Condition.join({"a": c, "b": c})),
}


@torch.no_grad()
@pytest.mark.parametrize("what", OTHER)
def test_other_inputs_are_evaluated_completely(model, inputs, encoder_runs, what):
    if what == "condition" and not model.takes_text:
        pytest.skip("a model without conditions")
    half, own, other = EncoderHalf(), [moved()], OTHER[what](*inputs)
    model.predict(*inputs, [half])
    second = model.predict(*other, [half, *own])
    assert len(encoder_runs) == 2
    assert torch.equal(second, model.predict(*other, own))


@torch.no_grad()
@pytest.mark.parametrize("name", ["down_blocks.0", "mid_block.resnets.0", "conv_in"])
def test_taps_before_mid_block_output_need_complete_evaluation(model, inputs, encoder_runs, name):
    half, own = EncoderHalf(), [moved(name)]
    model.predict(*inputs, [half])
    second = model.predict(*inputs, [half, *own])
    assert len(encoder_runs) == 2
    assert torch.equal(second, model.predict(*inputs, own))


def test_encoder_half_with_gradients_is_reused_without_gradients(model, inputs, encoder_runs):
    half, (x, t, condition) = EncoderHalf(), inputs
    x = x.requires_grad_()
    assert model.predict(x, t, condition, [half]).requires_grad
    with torch.no_grad():
        second = model.predict(x, t, condition, [half, moved()])
    assert (second.requires_grad, len(encoder_runs)) == (False, 1)
    (gradient,) = torch.autograd.grad(model.predict(x, t, condition, [half, moved()]).sum(), x)
    (complete,) = torch.autograd.grad(model.predict(x, t, condition, [moved()]).sum(), x)
    assert torch.equal(gradient, complete)


def test_a_constant_encoder_half_is_reused_with_gradients(model, inputs, encoder_runs):
    half, (x, t, condition) = EncoderHalf(constant=True), inputs
    leaf = torch.full((1,), 0.3, requires_grad=True)
    tap = Replace("mid_block", lambda h: h + leaf)
    with torch.no_grad():
        model.predict(x, t, condition, [half])
    (gradient,) = torch.autograd.grad(model.predict(x, t, condition, [half, tap]).square().sum(), leaf)
    assert len(encoder_runs) == 1
    (complete,) = torch.autograd.grad(model.predict(x, t, condition, [tap]).square().sum(), leaf)
    assert torch.equal(gradient, complete)
