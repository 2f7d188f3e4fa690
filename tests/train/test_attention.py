"""The attention of trained networks: another implementation on the CPU, with the same results and saved files."""

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from transformers import CLIPModel

from sfumato.train.attention import use_fastest_attention
from sfumato.train.dual_encoder_network import DualEncoderNetwork, build_dual_encoder
from sfumato.train.start import build_task
from sfumato.train.tokenizer import Tokens, train_tokenizer
from sfumato.train.unet import DiffusionNetwork, build_unet
from tests.train.small import DUAL_ENCODER, small_recipe

CAPTIONS = ["a red disc", "a blue square on white"]


@pytest.fixture
def clip():
    torch.manual_seed(0)
    tokenizer = train_tokenizer(CAPTIONS, 600, 12)
    shape = DualEncoderNetwork(width=64, image_layers=2, text_layers=2, patch=8, projection=16, context=12)
    ids, mask = Tokens(tokenizer, CAPTIONS)(CAPTIONS)
    assert not mask.all(), "no caption is padded"
    inputs = {"input_ids": ids, "attention_mask": mask, "pixel_values": torch.rand(2, 3, 16, 16)}
    return build_dual_encoder(shape, 16, tokenizer, 0.07).double().eval(), inputs


def gradients(network, output):
    network.zero_grad()
    output.square().sum().backward()
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def test_dual_encoder_computes_the_same_outputs_and_gradients(clip):
    network, inputs = clip
    inputs["pixel_values"] = inputs["pixel_values"].double()
    fused = network(**inputs).logits_per_image
    expected = gradients(network, fused)
    use_fastest_attention(network, "cpu")
    for part in (network.vision_model, network.text_model):
        assert part.config._attn_implementation == "eager"
    plain = network(**inputs).logits_per_image
    # transformers computes the softmax of this implementation in fp32
    torch.testing.assert_close(plain, fused, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradients(network, plain), expected, rtol=1e-3, atol=1e-4)


def test_unet_computes_the_same_outputs_and_gradients():
    torch.manual_seed(0)
    unet = build_unet(DiffusionNetwork("", channels=(16, 32), heads=(2, 4), groups=8), 4, 8, 64).double()
    x, t, states = torch.randn(2, 4, 8, 8).double(), torch.tensor([10, 900]), torch.randn(2, 12, 64).double()
    fused = unet(x, t, encoder_hidden_states=states).sample
    expected = gradients(unet, fused)
    use_fastest_attention(unet, "cpu")
    assert {type(each) for each in unet.attn_processors.values()} == {AttnProcessor}
    plain = unet(x, t, encoder_hidden_states=states).sample
    torch.testing.assert_close(plain, fused)
    torch.testing.assert_close(gradients(unet, plain), expected)


def test_other_devices_keep_fused_attention(clip):
    unet = build_unet(DiffusionNetwork("", channels=(16, 32), heads=(2, 4), groups=8), 4, 8, 64)
    for network in (unet, clip[0]):
        use_fastest_attention(network, "cuda")
    assert {type(each) for each in unet.attn_processors.values()} == {AttnProcessor2_0}
    assert clip[0].text_model.config._attn_implementation == "sdpa"


def test_exported_encoder_is_loaded_with_fused_attention(image_folder, tmp_path):
    task = build_task(small_recipe("dual-encoder", image_folder, 1, DUAL_ENCODER), tmp_path / "run")
    assert task.clip.text_model.config._attn_implementation == "eager"
    task.export(tmp_path / "export")
    assert "eager" not in (tmp_path / "export" / "config.json").read_text()
    assert CLIPModel.from_pretrained(tmp_path / "export").text_model.config._attn_implementation == "sdpa"
