"""Parsing and encoding of prompt weights, and long prompts in chunks against encodings of every chunk."""

import pickle
import re
import time
from contextlib import suppress

import numpy as np
import pytest
import torch

import sfumato
from sfumato.architectures import ARCHITECTURES
from sfumato.editing.registry import METHODS
from sfumato.errors import BadInput
from sfumato.models.load import load_model
from sfumato.models.prompt_weights import parse
from sfumato.networks.clip_tokenizer import read_tokenizer
from tests import tiny


@pytest.fixture(params=["sd", "sdxl"])
def pair(request, tiny_folder):
    folder = tiny_folder(request.param)
    return load_model(folder, "cpu", prompt_weights=True), load_model(folder, "cpu")


def test_other_networks_get_the_prompt_without_weights(pair):
    """For example the CLIP model of DiffuseIT's losses."""
    weighted, _ = pair
    prompts = weighted.condition(["a (red:1.4) apple", "cat"]).prompts
    assert [(each.text, each.plain) for each in prompts] == [("a (red:1.4) apple", "a red apple"), ("cat", "cat")]
    pairs = [(prompts[0], prompts[0])]
    assert METHODS.find("diffuseit").params().texts(pairs) == [("a red apple", "a red apple")]


@pytest.mark.parametrize(
    ("prompt", "text", "phrases"),
    [
        (r"a (red:1.4) apple, (big cat : .5) \(1:2\)", "a red apple, big cat  (1:2)", {"red": 1.4, "big cat ": 0.5}),
        ("16:9, no weights (at all) here :( or (here: a cat) :)", None, {}),
        (r"(cat \(blue\):1.3), sky", "cat (blue), sky", {"cat (blue)": 1.3}),
        ("(cat (blue):1.3), sky", "cat (blue), sky", {"cat (blue)": 1.3}),
        ("(red:1.) (blue:.5) (green:+2) (dog: 15e-1 )", "red blue green dog",
         {"red": 1.0, "blue": 0.5, "green": 2.0, "dog": 1.5}),
        ("((a cat:1.2) on a mat:1.5)", "a cat on a mat", {"a cat": 1.2 * 1.5, " on a mat": 1.5}),
        ("(a (b (cat:0.5):2) dog:3)", "a b cat dog", {"a ": 3.0, "b ": 6.0, "cat dog": 3.0}),
        ("(a ((cat):1.5):2)!", "a (cat)!", {"a ": 2.0, "(cat)": 3.0}),
        ("(a:b:1.3) (plain) (:3)", "a:b (plain) ", {"a:b": 1.3}),
        ("(red:0.5) (cat:0.5), (dog:0.5)", "red cat, dog", {"red cat": 0.5, "dog": 0.5}),
        ("a (happy cat\n:1.5)\tand (1:2)", "a happy cat\n\tand 1", {"happy cat\n": 1.5, "1": 2.0}),
        ("", "", {}),
    ],
)  # fmt: skip
def test_parsing_of_prompt_weights(prompt, text, phrases):
    found = parse(prompt)
    assert found.text == (prompt if text is None else text)
    read = [(found.text[each.start : each.stop], each.weight) for each in found.phrases]
    assert read == [each for each in phrases.items() if each[1] != 1]


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        ("(red:-1)", 'weight of "red" must be from 0 to 10, not -1'),
        ("lunch (12:30)", 'weight of "12" must be from 0 to 10, not 30'),
        ("(red:11)", 'weight of "red" must be from 0 to 10, not 11'),
        ("(red:1e9)", 'weight of "red" must be from 0 to 10, not 1e9'),
        ("(a (red:4):3)", 'weight of "red" must be from 0 to 10, not 12'),
        ("(red:1,4)", 'weight of "red" cannot be 1,4: write a number with a point'),
        ("(red:140%)", 'weight of "red" cannot be 140%'),
        ("(red:1.4.2)", 'weight of "red" cannot be 1.4.2'),
        ("a red:1.4) apple", r'has ":1.4\)" without "\("'),
        ("(a cat:1.2)) on a mat:1.1)", r'has ":1.1\)" without "\("'),
        ("((a cat:1.2) on a mat:1.1", r'has "\(" without "\)" after the weight ":1.1"'),
        ("(red:1.4 apple, (cat:1.3)", r'has "\(" without "\)" after the weight ":1.4"'),
        ("a (re:1.5)d cat", 'weight of "re" begins or ends inside a word'),
        ("ap(ple:0.5) cat", 'weight of "ple" begins or ends inside a word'),
        ("a (cat (re:0.5)d:1.5) cat", 'weight of "cat " begins or ends|weight of "re" begins or ends'),
    ],
)
def test_invalid_weights_are_rejected(prompt, says, tiny_sd_folder):
    model = load_model(tiny_sd_folder, "cpu", prompt_weights=True)
    with pytest.raises(BadInput, match=says):
        model.condition(prompt)


def test_weighted_phrases_must_be_whole_clip_tokens():
    with ARCHITECTURES[0].staged() as folder:
        tokenizer = read_tokenizer(folder / "tokenizer")
    for prompt in ("un(happy:1.5)", "(cat:1.2)s", "(wow!:1.2)!", "(😀:1.3)😀", "cafe(\u0301:1.2)", "caf(e:1.2)\u0301"):
        with pytest.raises(BadInput, match="begins or ends inside a word that the model reads as one token"):
            check_borders(prompt, tokenizer)
    for prompt in (
        "(cat:1.2)'s",
        "((best quality:1.2)), art",
        "(red:1.2),(blue:0.3)",
        "(cafe\u0301 :1.2)",
        "(猫:1.2)と",
    ):
        check_borders(prompt, tokenizer)


def check_borders(prompt, tokenizer):
    parsed = parse(prompt)
    parsed.check_borders(tokenizer(parsed.text, return_offsets_mapping=True).offset_mapping)


@pytest.mark.parametrize("prompt", ["(" * 300_000, "(a:1" * 100_000, ":1.1" * 200_000, "(a" * 20_000 + ":1)" * 20_000])
def test_long_prompts_are_parsed_within_five_seconds(prompt):
    start = time.process_time()
    with suppress(BadInput):
        parse(prompt)
    assert time.process_time() - start < 5


@torch.no_grad()
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_weights_change_only_their_own_tokens(precision, pair):
    weighted, plain = pair
    weighted.to("cpu", precision)
    plain.to("cpu", precision)
    for neighbour in ("(dog:1.3) star", "(dog:0.3) star"):
        beside = weighted.condition(["red cat", neighbour]).tokens
        alone = plain.condition(["red cat", "dog star"]).tokens
        assert beside.dtype == alone.dtype
        assert torch.equal(beside[0], alone[0])
        assert not torch.equal(beside[1], alone[1])
    heavy = weighted.condition("red (cat:1.3) dog").tokens[0]
    expected = plain.condition("red cat dog").tokens[0]
    changed = (heavy != expected).any(dim=-1).nonzero().flatten().tolist()
    assert changed == [2]  # tokens of weight 1 are unchanged


@torch.no_grad()
@pytest.mark.parametrize("weight", ["0", "0.00001", "0.01", "10"])
def test_all_weights_are_finite_in_half_precision(weight, pair):
    weighted, _ = pair
    prompt = f"a (red:{weight}) cat"
    expected = weighted.condition(prompt).tokens
    found = weighted.to("cpu", torch.float16).condition(prompt).tokens
    assert found.isfinite().all()
    torch.testing.assert_close(found.float(), expected, atol=0.02 * max(1, float(weight)), rtol=0.02)


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
def test_chunks_are_encoded_separately(pair, tiny_folder):
    plain = pair[1]
    words = ["red", "cat", "blue", "star"] * 25  # 100 tokens
    long = " ".join(words)
    remedy = r"in 2 chunks with --prompt-chunks 2 \(in Python: prompt_chunks=2\)"
    with pytest.raises(BadInput, match=f"100 tokens but this model reads at most 75.*{remedy}"):
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
        inverted = model.invert(tiny.tiny_image(), "red cat", method=method, steps=2)
        edit = inverted.edit(long)
        assert edit.pixels[0].shape == (32, 32, 3)
    assert edit.recipes[0]["prompt_weights"] is True
    assert edit.recipes[0]["prompt_chunks"] == 2


def test_inversions_and_plans_need_equal_prompt_options(tiny_sd_folder, tmp_path):
    ways = [{}, {"prompt_weights": True, "prompt_chunks": 2}]
    models = [sfumato.load(tiny_sd_folder, "cpu", **options) for options in ways]
    wanted = [
        "was made without prompt_weights and prompt_chunks, and the model was loaded with prompt_weights=True and "
        "prompt_chunks=2: load it without prompt_weights and prompt_chunks, or",
        "was made with prompt_weights=True and prompt_chunks=2, and the model was loaded without prompt_weights and "
        "prompt_chunks: load it with prompt_weights=True and prompt_chunks=2 (--prompt-weights --prompt-chunks 2), or",
    ]
    for model, other, sentence in zip(models, models[::-1], wanted, strict=True):
        inverted = model.invert(tiny.tiny_image(), "red cat", steps=2)
        inverted.save(tmp_path / "cat.safetensors")
        assert np.array_equal(model.open(tmp_path / "cat.safetensors").edit("dog").pixels, inverted.edit("dog").pixels)
        with pytest.raises(BadInput, match=re.escape(f"This inversion {sentence} invert the image again.")):
            other.open(tmp_path / "cat.safetensors")
        plan = pickle.loads(pickle.dumps(model.plan(tiny.tiny_image(), "red cat", "dog", steps=2)))
        plan.on(model)
        with pytest.raises(BadInput, match=re.escape(f"This plan {sentence} make the plan again.")):
            plan.on(other)


@pytest.mark.parametrize("chunks", [0, 21, 1.5, True])
def test_invalid_prompt_options_are_rejected(chunks, tiny_sd_folder, tiny_ddpm_folder):
    with pytest.raises(BadInput, match="prompt_chunks must be an integer from 1 to 20"):
        sfumato.load(tiny_sd_folder, "cpu", prompt_chunks=chunks)
    with pytest.raises(BadInput, match="no text input: leave prompt_weights"):
        sfumato.load(tiny_ddpm_folder, "cpu", prompt_weights=True)
