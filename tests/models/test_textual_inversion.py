"""`textual_inversion=` adds words as diffusers' load_textual_inversion does."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import save_file

import sfumato
from sfumato.architectures import ARCHITECTURES
from sfumato.errors import BadInput
from sfumato.models.load import load_model
from sfumato.models.textual_inversion import add_word, read_textual_inversions
from sfumato.networks.clip_tokenizer import read_tokenizer
from tests import tiny

PROMPT = "a red <toy>, twemoji"


def vectors(n=3, seed=0):
    return torch.randn(n, tiny.WIDTH, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def write(tmp_path):
    def write(name="toy.safetensors", **tensors):
        save_file(tensors, tmp_path / name)
        return tmp_path / name

    return write


@pytest.mark.parametrize("count", [1, 3])
@torch.no_grad()
def test_tokens_match_diffusers(count, write, tiny_sd_folder):
    path = write(**{"<toy>": vectors(count)})
    pipe = DiffusionPipeline.from_pretrained(tiny_sd_folder, local_files_only=True)
    pipe.load_textual_inversion(str(path))
    model = load_model(tiny_sd_folder, "cpu", textual_inversion=path)
    assert torch.equal(model.condition(PROMPT).tokens, pipe.encode_prompt(PROMPT, "cpu", 1, False)[0])
    assert model.condition(PROMPT).prompts[0].positions("<toy>") == tuple(range(3, 3 + count))
    assert torch.equal(model.condition("red cat").tokens, load_model(tiny_sd_folder, "cpu").condition("red cat").tokens)


@torch.no_grad()
def test_word_defaults_to_the_file_name(write, tiny_sd_folder, tiny_sdxl_folder):
    path = write("glow.safetensors", emb_params=vectors(2))
    named = load_model(tiny_sd_folder, "cpu", textual_inversion=[path])
    chosen = load_model(tiny_sd_folder, "cpu", textual_inversion=[f"{path}:<mine>"])
    assert torch.equal(named.condition("red glow").tokens, chosen.condition("red <mine>").tokens)
    two = write("two.safetensors", clip_l=vectors(2, 1), clip_g=vectors(2, 2))
    model, plain = load_model(tiny_sdxl_folder, "cpu", textual_inversion=two), load_model(tiny_sdxl_folder, "cpu")
    tables = [each.encoder.get_input_embeddings().weight[-2:] for each in model.text_encoders]
    assert torch.equal(tables[0], vectors(2, 1))
    assert torch.equal(tables[1], vectors(2, 2))
    assert not torch.equal(model.condition("red two").tokens, plain.condition("red two").tokens)


@pytest.mark.parametrize("counts", [(1, 2), (3, 2)])
def test_different_vector_counts_per_text_encoder_are_rejected(counts, write, tiny_sdxl_folder):
    two = write("two.safetensors", clip_l=vectors(counts[0]), clip_g=vectors(counts[1]))
    model = load_model(tiny_sdxl_folder, "cpu")
    before = model.fingerprint(), model.text_encoders[0].tokenizer.get_vocab()
    with pytest.raises(BadInput, match=rf"have {min(counts)} and {max(counts)} vectors for the word"):
        add_word(model, *read_textual_inversions(two))
    assert (model.fingerprint(), model.text_encoders[0].tokenizer.get_vocab()) == before


def test_words_in_the_documentation_are_not_clip_tokens():
    """A word that the model already has is refused."""
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
    files = set(re.findall(r'--textual-inversion (\S+)\.safetensors|textual_inversion="(.+?)\.safetensors', page))
    words = {word for each in files for word in each if word}
    with ARCHITECTURES[0].staged() as folder:
        tokenizer = read_tokenizer(folder / "tokenizer")
    assert words
    for word in words:
        assert len(tokenizer.tokenize(word)) > 1
        assert f"a cat, {word}" in page


def test_words_with_a_common_prefix_are_distinguished(write, tiny_sd_folder):
    files = [write(f"{n}.safetensors", **{"Easy" + "V2" * (n - 2): vectors(5 - n)}) for n in (2, 3)]
    model = load_model(tiny_sd_folder, "cpu", textual_inversion=files, prompt_weights=True)
    added = model.text_encoders[0].tokenizer.added_tokens_encoder
    for name, written, tokens in (
        ("Easy", ("Easy", "easy", "EASY"), ("Easy", "Easy_1", "Easy_2")),
        ("EasyV2", ("EasyV2", "easyv2"), ("EasyV2", "EasyV2_1")),
    ):
        for word in written:
            (prompt,) = model.condition(f"red {word}, (cat:1.5)").prompts
            assert prompt.words == ("red", word, ",", "cat")
            assert [prompt.ids[place] for place in prompt.positions(name)] == [added[token] for token in tokens]
            weights, _ = model.text_encoders[0].weights(f"red ({word}:1.5), cat")
            assert (weights != 1).nonzero().flatten().tolist() == list(range(2, 2 + len(tokens)))


@torch.no_grad()
def test_pooled_vector_is_correct_with_old_eos_token_id(write, tiny_sdxl_folder, tmp_path):
    two = write("two.safetensors", clip_l=vectors(2, 1), clip_g=vectors(2, 2))
    shutil.copytree(tiny_sdxl_folder, tmp_path / "old")
    config = tmp_path / "old" / "text_encoder_2" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"eos_token_id": 2}))
    old, new = (load_model(each, "cpu", textual_inversion=two) for each in (tmp_path / "old", tiny_sdxl_folder))
    for prompt in ("red two cat", "red cat", ""):
        assert torch.equal(old.condition(prompt).pooled, new.condition(prompt).pooled)


def test_textual_inversion_is_recorded(write, tiny_sd_folder):
    model = sfumato.load(tiny_sd_folder, "cpu", textual_inversion=write(**{"<toy>": vectors()}))
    assert model.network.fingerprint() != load_model(tiny_sd_folder, "cpu").fingerprint()
    (entry,) = model.generate(PROMPT, steps=1).recipes[0]["textual_inversion"]
    assert (entry["name"], entry["word"], len(entry["sha256"])) == ("toy.safetensors", "<toy>", 64)


def test_unusable_files_and_words_are_rejected(write, tiny_sd_folder, tiny_sdxl_folder, tmp_path):
    path = write(**{"<toy>": vectors()})
    with pytest.raises(BadInput, match=r"another kind of model: its vectors have the widths \[16\]"):
        load_model(tiny_sdxl_folder, "cpu", textual_inversion=path)
    with pytest.raises(BadInput, match="already has the word '<toy>'"):
        load_model(tiny_sd_folder, "cpu", textual_inversion=[path, path])
    for word in ("<TOY>", "Cat"):
        with pytest.raises(BadInput, match=rf"already has the word '{word}' \(case does not matter\)"):
            load_model(tiny_sd_folder, "cpu", textual_inversion=[path, f"{path}:{word}"])
    with pytest.raises(BadInput, match="cannot be a word of prompts"):
        load_model(tiny_sd_folder, "cpu", textual_inversion=f"{path}:two words")
    with pytest.raises(BadInput, match="is not a textual inversion: it contains 2 tensors"):
        load_model(tiny_sd_folder, "cpu", textual_inversion=write("b.safetensors", one=vectors(), two=vectors()))
    with pytest.raises(BadInput, match="can run code"):
        load_model(tiny_sd_folder, "cpu", textual_inversion=tmp_path / "a.pt")
