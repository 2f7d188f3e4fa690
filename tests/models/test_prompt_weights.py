"""Weights of words against the formulas, and prompts in chunks against encodings of every chunk."""

import math
import pickle
import re

import numpy as np
import pytest
import torch

import sfumato
from sfumato.errors import BadInput
from sfumato.methods.registry import METHODS
from sfumato.models.load import load_model
from sfumato.models.prompt_weights import parse
from tests import tiny


@pytest.fixture(params=["sd", "sdxl"])
def pair(request, tiny_folder):
    folder = tiny_folder(request.param)
    return load_model(folder, "cpu", prompt_weights=True), load_model(folder, "cpu")


def test_other_networks_get_the_prompt_without_weights(pair):
    """Such as the CLIP of DiffuseIT's losses."""
    weighted, _ = pair
    prompts = weighted.condition(["a (red:1.4) apple", "cat"]).prompts
    assert [(each.text, each.plain) for each in prompts] == [("a (red:1.4) apple", "a red apple"), ("cat", "cat")]
    pairs = [(prompts[0], prompts[0])]
    assert METHODS.find("diffuseit").params().texts(pairs) == [("a red apple", "a red apple")]


def test_parsing():
    found = parse(r"a (red:1.4) apple, (big cat : .5) \(1:2\) (plain) (:3)")
    assert found.text == "a red apple, big cat  (1:2) (plain) "
    assert [(found.text[p.start : p.stop], p.weight) for p in found.phrases] == [
        ("red", 1.4),
        ("big cat ", 0.5),
        ("", 3),
    ]
    assert parse("no weights (at all) here").phrases == ()


@pytest.mark.parametrize("weight", ["-1", "11", "1e9"])
def test_weights_out_of_range(weight, tiny_sd_folder):
    model = load_model(tiny_sd_folder, "cpu", prompt_weights=True)
    if weight == "1e9":
        assert model.condition(f"(red:{weight})").prompts[0].words[0] == "("
        return
    with pytest.raises(BadInput, match='weight of "red" must be from 0 to 10'):
        model.condition(f"(red:{weight})")


@torch.no_grad()
def test_weighted_tokens_are_the_formula(pair):
    weighted, plain = pair
    found, base = weighted.condition("a (red:1.5) cat"), plain.condition("a red cat")
    several = len(plain.text_encoders) > 1
    empty = [_states(each, "", several) for each in plain.text_encoders]
    empty = torch.cat(empty, dim=-1)
    expected = base.tokens.clone()
    place = base.prompts[0].positions("red")[0]
    expected[0, place] = empty[0, place] + 1.5 * (base.tokens[0, place] - empty[0, place])
    torch.testing.assert_close(found.tokens, expected, atol=1e-6, rtol=1e-6)
    assert found.prompts[0].words == ("a", "red", "cat")
    if several:
        assert torch.equal(found.pooled, base.pooled)


@torch.no_grad()
def test_light_phrases_are_blended_with_the_prompt_without_them(pair):
    weighted, plain = pair
    found = weighted.condition("a (red:0.3) (cat:1.2)")
    several = len(plain.text_encoders) > 1
    share = math.tan(0.7 * math.pi / 2)
    scale = torch.ones(77, 1)
    scale[2], scale[3] = 0.3, 1.2
    parts = []
    for each in plain.text_encoders:
        mask = torch.ones(1, 77, dtype=torch.long)
        mask[0, 2] = 0
        calls = (("a red cat", None), ("a red cat", mask), ("", None))
        z, without, empty = (_states(each, text, several, where) for text, where in calls)
        first, second = (empty + scale * (states - empty) for states in (z, without))
        parts.append((first + share * second) / (1 + share))
    torch.testing.assert_close(found.tokens, torch.cat(parts, dim=-1), atol=1e-6, rtol=1e-6)


def _states(encoder, prompt, several, mask=None):
    out = encoder.encoder(encoder.tokenize([prompt])[0], attention_mask=mask, output_hidden_states=True)
    return out.hidden_states[-2] if several else out[0]


@torch.no_grad()
def test_prompts_without_weights_are_bit_identical(pair):
    weighted, plain = pair
    for prompt in ("", "a red cat", "red cat (blue)", "(red:1.0) cat"):
        text = prompt.replace("(red:1.0)", "red")
        assert torch.equal(weighted.condition(prompt).tokens, plain.condition(text).tokens)


@torch.no_grad()
def test_chunks_are_encoded_one_by_one(pair, tiny_folder):
    plain = pair[1]
    words = ["red", "cat", "blue", "star"] * 25  # 100 tokens
    long = " ".join(words)
    with pytest.raises(BadInput, match=r"100 tokens but this model reads at most 75.*in 2 chunks \(prompt_chunks=2\)"):
        plain.condition(long)
    plain.read_prompts(chunks=2)
    found = plain.condition([long, "red"])
    prompt = found.prompts[0]
    plain.read_prompts()
    parts = [plain.condition(" ".join(part)) for part in (words[:75], words[75:])]
    assert torch.equal(found.tokens[0], torch.cat([each.tokens[0] for each in parts]))
    empty = torch.cat([_states(each, "", len(plain.text_encoders) > 1)[0] for each in plain.text_encoders], dim=-1)
    assert torch.equal(found.tokens[1], torch.cat([plain.condition("red").tokens[0], empty]))
    if found.pooled is not None:
        torch.testing.assert_close(found.pooled[0], parts[0].pooled[0], atol=1e-5, rtol=1e-5)
    assert [prompt.words[k] for k in (0, 74, 75, 99)] == [words[k] for k in (0, 74, 75, 99)]
    assert [prompt.places[k] for k in (0, 74, 75, 99)] == [(1,), (75,), (78,), (102,)]
    assert [prompt.ids[p] for (p,) in prompt.places] == [plain.condition(word).prompts[0].ids[1] for word in words]


def test_edits_with_weights_and_chunks(tiny_sd_folder):
    model = sfumato.load(tiny_sd_folder, "cpu", prompt_weights=True, prompt_chunks=2)
    long = "a (red:1.3) cat, " + "blue star " * 40
    for method in ("edit-friendly", "prompt-to-prompt", "plug-and-play"):
        inverted = model.invert(tiny.tiny_picture(), "red cat", method=method, steps=2)
        edit = inverted.edit(long)
        assert edit.pixels[0].shape == (32, 32, 3)
    assert edit.recipes[0]["prompt_weights"] is True
    assert edit.recipes[0]["prompt_chunks"] == 2


def test_inversions_and_plans_are_for_models_that_read_prompts_in_the_same_way(tiny_sd_folder, tmp_path):
    ways = [{}, {"prompt_weights": True, "prompt_chunks": 2}]
    models = [sfumato.load(tiny_sd_folder, "cpu", **options) for options in ways]
    wanted = [
        "was made without prompt_weights and prompt_chunks, and the model was loaded with prompt_weights=True and "
        "prompt_chunks=2: load it without prompt_weights and prompt_chunks, or",
        "was made with prompt_weights=True and prompt_chunks=2, and the model was loaded without prompt_weights and "
        "prompt_chunks: load it with prompt_weights=True and prompt_chunks=2 (--prompt-weights --prompt-chunks 2), or",
    ]
    for model, other, sentence in zip(models, models[::-1], wanted, strict=True):
        inverted = model.invert(tiny.tiny_picture(), "red cat", steps=2)
        inverted.save(tmp_path / "cat.safetensors")
        assert np.array_equal(model.open(tmp_path / "cat.safetensors").edit("dog").pixels, inverted.edit("dog").pixels)
        with pytest.raises(BadInput, match=re.escape(f"This inversion {sentence} invert the image again.")):
            other.open(tmp_path / "cat.safetensors")
        plan = pickle.loads(pickle.dumps(model.plan(tiny.tiny_picture(), "red cat", "dog", steps=2)))
        plan.on(model)
        with pytest.raises(BadInput, match=re.escape(f"This plan {sentence} plan the edit again.")):
            plan.on(other)


@pytest.mark.parametrize("chunks", [0, 21, 1.5, True])
def test_bad_numbers_of_chunks(chunks, tiny_sd_folder, tiny_ddpm_folder):
    with pytest.raises(BadInput, match="prompt_chunks must be an integer from 1 to 20"):
        sfumato.load(tiny_sd_folder, "cpu", prompt_chunks=chunks)
    with pytest.raises(BadInput, match="no text input: leave prompt_weights"):
        sfumato.load(tiny_ddpm_folder, "cpu", prompt_weights=True)
