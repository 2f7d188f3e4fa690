"""The tiny pipelines have the properties that the other tests rely on."""

import torch
from diffusers import DiffusionPipeline

from tests import tiny


def test_diffusers_loads_every_layout(layout_folder):
    pipeline = DiffusionPipeline.from_pretrained(layout_folder, local_files_only=True)
    networks = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    assert sum(weight.numel() for network in networks for weight in network.parameters()) < 250_000


def test_seed_determines_weights_without_changing_the_global_generator(tmp_path):
    weights = "unet/diffusion_pytorch_model.safetensors"
    before = torch.get_rng_state()
    files = [tiny.tiny_sd(tmp_path / name, seed=7) / weights for name in "ab"]
    other = tiny.tiny_sd(tmp_path / "c", seed=8) / weights
    assert files[0].read_bytes() == files[1].read_bytes() != other.read_bytes()
    assert torch.equal(before, torch.get_rng_state())


def test_vocabulary_word_is_one_token():
    tokenizer = tiny.tiny_tokenizer()
    ids = tokenizer("red apple").input_ids
    assert tokenizer.convert_ids_to_tokens(ids) == [tiny.START, "red</w>", "apple</w>", tiny.END]
