"""The tiny pipelines are what the other tests take them for."""

import torch
from diffusers import DiffusionPipeline

from tests import tiny


def test_plain_diffusers_opens_every_layout(layout_folder):
    pipeline = DiffusionPipeline.from_pretrained(layout_folder, local_files_only=True)
    networks = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    assert sum(weight.numel() for network in networks for weight in network.parameters()) < 250_000


def test_the_same_seed_gives_the_same_weights_and_leaves_the_global_generator_alone(tmp_path):
    weights = "unet/diffusion_pytorch_model.safetensors"
    before = torch.get_rng_state()
    files = [tiny.tiny_sd(tmp_path / name, seed=7) / weights for name in "ab"]
    other = tiny.tiny_sd(tmp_path / "c", seed=8) / weights
    assert files[0].read_bytes() == files[1].read_bytes() != other.read_bytes()
    assert torch.equal(before, torch.get_rng_state())


def test_a_known_word_is_one_token():
    tokenizer = tiny.tiny_tokenizer()
    ids = tokenizer("red apple").input_ids
    assert tokenizer.convert_ids_to_tokens(ids) == [tiny.START, "red</w>", "apple</w>", tiny.END]
