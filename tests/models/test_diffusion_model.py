"""The interface of DiffusionModel, for every layout."""

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor

from sfumato.core.condition import Condition
from sfumato.errors import BadInput
from sfumato.models.load import load_model
from sfumato.models.taps import Record
from tests import tiny


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def model(layout_folder):
    return load_model(layout_folder, "cpu")


@pytest.fixture
def prompts(model):
    return ["red apple", "a blue cat", ""] if model.takes_text else ["", "", ""]


@pytest.fixture
def sd(tiny_sd_folder):
    return load_model(tiny_sd_folder, "cpu")


def latents(model, rows=3, height=24, width=16):
    return noise(rows, *model.latent_shape(height, width))


def test_factor_multiple_and_native_size(model, layout):
    factor, native = (1, 16) if layout == "ddpm" else (4, 32)
    assert (model.factor, model.multiple, model.native_size) == (factor, 2 * factor, (native, native))
    assert model.latent_channels == (3 if layout == "ddpm" else 4)


def test_encode_and_decode_have_the_expected_shapes(model):
    pixels = noise(2, 3, 5 * model.multiple, 3 * model.multiple).clamp(-1, 1)
    encoded = model.encode(pixels)
    assert encoded.shape == (2, *model.latent_shape(*pixels.shape[-2:]))
    assert model.decode(encoded).shape == pixels.shape
    assert torch.equal(model.encode(pixels), encoded)


def test_rows_can_have_different_timesteps(model, prompts):
    x, cond = latents(model), model.condition(prompts)
    t = [1, 400, 999]
    together = model.predict(x, torch.tensor(t), cond)
    alone = torch.cat([model.predict(x[i : i + 1], t[i], cond[i]) for i in range(3)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    assert torch.equal(model.predict(x, torch.full((3,), 7), cond), model.predict(x, 7, cond))


def test_bottleneck_equals_mid_block_of_full_evaluation(model, prompts):
    x, cond, middle, late = latents(model), model.condition(prompts), Record("mid_block"), []
    model.predict(x, torch.tensor([1, 400, 999]), cond, taps=[middle])
    handle = model.unet.up_blocks[0].register_forward_hook(lambda *_: late.append(1))
    h = model.bottleneck(x, torch.tensor([1, 400, 999]), cond)
    handle.remove()
    assert torch.equal(h, middle.output)
    assert not late
    assert not model.unet.mid_block._forward_hooks


def test_bottleneck_forward_and_reverse_derivatives_agree(sd):
    """<u, J v> in forward mode equals <J^T u, v> in reverse mode."""
    sd.unet.set_attn_processor(AttnProcessor())  # fused attention has no forward derivative on the CPU
    x, v, cond = latents(sd, 1, 16, 16), noise(1, 4, 4, 4, seed=1), sd.condition("red")

    def h(x):
        return sd.bottleneck(x, 500, cond)

    _, forwards = torch.func.jvp(h, (x,), (v,))
    u = noise(*forwards.shape, seed=2)
    _, backwards = torch.autograd.functional.vjp(h, x, u)
    torch.testing.assert_close((u * forwards).sum(), (backwards * v).sum(), rtol=1e-4, atol=1e-5)
    assert forwards.abs().sum() > 0


def test_evaluations_are_counted_in_nested_scopes(sd):
    x, cond = latents(sd), sd.condition(["a", "b", "c"])
    with sd.counting() as outer:
        sd.predict(x, 1, cond)
        with sd.counting() as inner:
            sd.bottleneck(x[:2], 1, cond[:2])
        sd.predict(x[:1], 1, cond[0])
    sd.predict(x, 1, cond)
    assert (outer.calls, outer.samples) == (3, 6)
    assert (inner.calls, inner.samples) == (1, 2)
    assert (sd.count.calls, sd.count.samples) == (4, 9)


def test_counting_stops_after_an_exception(sd):
    x, cond = latents(sd), sd.condition(["a", "b", "c"])
    with pytest.raises(ZeroDivisionError), sd.counting() as count:
        raise ZeroDivisionError
    sd.predict(x, 1, cond)
    assert count.calls == 0


def test_fingerprint_depends_on_the_precision(tiny_sd_folder):
    model, half = load_model(tiny_sd_folder, "cpu"), load_model(tiny_sd_folder, "cpu", "bf16")
    full = model.fingerprint()
    assert model.to(dtype="bf16").fingerprint() == half.fingerprint() != full
    rounded = model.to(dtype="fp32").fingerprint()
    assert rounded not in (full, half.fingerprint())
    # converted twice between two fingerprints, and without the model's own method
    model = load_model(tiny_sd_folder, "cpu")
    model.fingerprint()
    model.to(dtype="bf16").to(dtype="fp32")
    assert model.fingerprint() == rounded
    torch.nn.Module.to(model.unet, torch.bfloat16)
    assert model.fingerprint() not in (rounded, half.fingerprint())


def test_fingerprint_distinguishes_models(tiny_sd_folder, tmp_path):
    first, again = load_model(tiny_sd_folder, "cpu"), load_model(str(tiny_sd_folder), "cpu")
    before = first.fingerprint()
    assert before == again.fingerprint() == first.fingerprint()
    assert before != load_model(tiny.tiny_sd(tmp_path / "v", prediction_type="v_prediction"), "cpu").fingerprint()
    assert before != load_model(tiny_sd_folder, "cpu", "bf16").fingerprint()
    with torch.no_grad():
        next(again.codec.module.parameters()).view(-1)[3] += 1e-6
    assert before != again.fingerprint()


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_half_precision_keeps_latents_and_noise_in_float32(layout_folder, dtype, model, prompts):
    half = load_model(layout_folder, "cpu", dtype)
    pixels = noise(3, 3, 16, 24).clamp(-1, 1)
    x0 = half.encode(pixels)
    eps = half.predict(x0, 500, half.condition(prompts))
    assert half.dtype in (torch.bfloat16, torch.float16)
    assert torch.equal(x0, model.encode(pixels))
    assert eps.dtype == half.decode(x0).dtype == torch.float32
    torch.testing.assert_close(eps, model.predict(x0, 500, model.condition(prompts)), atol=0.05, rtol=0.05)


def test_precision_changes_in_place(sd):
    assert sd.to(dtype="bf16") is sd
    assert sd.dtype == torch.bfloat16 == sd.condition("red").tokens.dtype
    assert next(sd.codec.module.parameters()).dtype == torch.float32


def test_weights_are_frozen_and_in_evaluation_mode(model):
    for network in model._networks().values():
        assert not network.training
        assert not any(weight.requires_grad for weight in network.parameters())


def test_prompt_longer_than_75_tokens_is_rejected(sd):
    assert sd.condition("red " * 75).tokens.shape[1] == 77
    with pytest.raises(BadInput, match=r"76 tokens.* at most 75"):
        sd.condition(["cat", "red " * 76])


@pytest.mark.parametrize("prompts", [[], [3], None])
def test_invalid_prompts_are_rejected(sd, prompts):
    with pytest.raises(BadInput, match="Give a prompt"):
        sd.condition(prompts)


def test_model_without_text_accepts_only_empty_prompts(tiny_ddpm_folder):
    model = load_model(tiny_ddpm_folder, "cpu")
    assert len(model.condition(["", ""])) == 2
    with pytest.raises(BadInput, match="no text input"):
        model.condition("red")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.zeros(3, 3, 8, 8)}, r"\[b,4,h,w\]"),
        ({"x": torch.zeros(3, 4, 8, 7)}, "multiples of 2"),
        ({"t": 1000}, "between 0 and 999"),
        ({"t": -1}, "between 0 and 999"),
        ({"t": torch.tensor([1, 2])}, "one per row"),
        ({"cond": None}, "needs a condition"),
        ({"x": torch.zeros(2, 4, 8, 8)}, "one row of the condition per latent"),
    ],
)
def test_invalid_inputs_are_rejected_before_evaluation(sd, change, message):
    given = {"x": torch.zeros(3, 4, 8, 8), "t": 5, "cond": sd.condition(["a", "b", "c"])} | change
    with pytest.raises(BadInput, match=message):
        sd.predict(**given)
    assert sd.count.calls == 0


@pytest.mark.parametrize("shape", [(1, 3, 16, 17), (1, 3, 12, 16), (1, 4, 16, 16), (3, 16, 16)])
def test_images_of_invalid_shape_are_rejected(sd, shape):
    with pytest.raises(BadInput):
        sd.encode(torch.zeros(shape))


def test_network_with_additional_channels_takes_maps(tmp_path):
    model = load_model(tiny.tiny_sd(tmp_path / "inpainting", in_channels=9), "cpu")
    maps, x = noise(2, 5, 8, 8), noise(2, 4, 8, 8, seed=1)
    assert model.map_channels == 5
    cond = model.condition(["red", ""], maps=maps)
    expected = model.unet(torch.cat([x, maps], 1), 5, encoder_hidden_states=cond.tokens).sample
    assert torch.equal(model.predict(x, 5, cond), expected)
    for wrong in (None, maps[:1], maps[:, :4]):
        with pytest.raises(BadInput, match=r"\[2,5,h,w\]"):
            model.condition(["red", ""], maps=wrong)
    with pytest.raises(BadInput, match="maps with 5 channels"):
        model.predict(x, 5, Condition(tokens=cond.tokens))
