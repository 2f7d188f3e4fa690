"""Malicious tokenizer files: only the vocabulary, merges and special tokens of a CLIP tokenizer are read."""

import json
import os
import shutil
from typing import Any

import pytest
from transformers import CLIPTokenizer

from sfumato.metrics import DualEncoder
from sfumato.networks.clip_tokenizer import read_tokenizer
from tests.attacks import malicious as bad
from tests.tiny import END, START

#: A regular expression that takes gigabytes to compile, and one that takes hours to match.
LARGE, SLOW = "((((a{1,999}){1,999}){1,999}){1,999})", "(a+)+$"
SPLIT = {"type": "Split", "pattern": {"Regex": LARGE}, "behavior": "Isolated", "invert": False}


@pytest.fixture
def folder(bases, tmp_path):
    """A folder with only the tokenizer of a dual encoder."""
    place = tmp_path / "tokenizer"
    place.mkdir()
    for file in bases["clip"].glob("tokenizer*"):
        shutil.copy(file, place)
    return place


TEXTS = ["a red apple", "A  CAT, noto!", "", "zebra's 3 stars", "ünïcode 😀"]


@pytest.mark.parametrize("old", [False, True])
def test_tokenizer_equals_that_of_transformers(folder, guard, old):
    """With tokenizer.json, and with vocab.json, merges.txt and special_tokens_map.json as older versions wrote them."""
    expected = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    expected.add_tokens(["<toy>"])
    expected.save_pretrained(folder)
    if old:
        table = json.loads((folder / "tokenizer.json").read_text())["model"]
        (folder / "tokenizer.json").unlink()
        (folder / "vocab.json").write_text(json.dumps(table["vocab"]))
        merges = [" ".join(each) for each in table["merges"]]
        (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
        (folder / "special_tokens_map.json").write_text(json.dumps({"pad_token": "<|endoftext|>"}))
        (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 48}))
        (folder / "added_tokens.json").write_text(json.dumps({"<toy>": len(expected) - 1}))
    assert not guard(lambda: read_tokenizer(folder))
    found = read_tokenizer(folder)
    for text in [*TEXTS, "a <toy> apple"]:
        assert found(text).input_ids == expected(text).input_ids, text
        padded = {"padding": "max_length", "max_length": 48}
        assert found(text, **padded).attention_mask == expected(text, **padded).attention_mask
    assert len(found) == len(expected)
    assert found.model_max_length == expected.model_max_length
    assert found.special_tokens_map == expected.special_tokens_map


@pytest.mark.parametrize(
    "changes",
    [
        {"normalizer": {"type": "Replace", "pattern": {"Regex": LARGE}, "content": "x" * 1000}},
        {"normalizer": {"type": "Replace", "pattern": {"Regex": SLOW}, "content": ""}},
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}},
        {"normalizer": 5},
        {"pre_tokenizer": SPLIT},
        {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [SPLIT] * 100}},
        {"post_processor": {"type": "TemplateProcessing", "single": [], "pair": [], "special_tokens": {}}},
        {"post_processor": bad.MODULE},
        {"decoder": {"type": bad.MODULE}},
        {"truncation": {"max_length": 10**9, "stride": -1}},
        {"padding": {"strategy": {"Fixed": 10**12}}},
        {"auto_map": {"AutoTokenizer": [f"{bad.MODULE}.A", None]}},
        {"version": bad.MODULE},
    ],
)
def test_custom_tokenizer_rules_are_ignored(folder, guard, changes):
    bad.change_json(folder / "tokenizer.json", **changes)
    assert not guard(lambda: read_tokenizer(folder)(["a" * 40 + "!", "a red apple"]))


@pytest.mark.parametrize(
    ("model", "rule"),
    [
        ({"merges": [["a"]]}, "must contain merges as a list of pairs of strings"),
        ({"merges": [["a", "b", "c"]]}, "must contain merges as a list of pairs of strings"),
        ({"merges": [[1, 2]]}, "must contain merges as a list of pairs of strings"),
        ({"merges": "a b"}, "must contain merges as a list of pairs of strings"),
        ({"merges": {"a": "b"}}, "must contain merges as a list of pairs of strings"),
        ({"vocab": {"a": -1}}, "must have token ids from 0 to"),
        ({"vocab": {"a": 1 << 40}}, "must have token ids from 0 to"),
        ({"vocab": {"a": 1.5}}, "must have token ids from 0 to"),
        ({"vocab": {"a": True}}, "must have token ids from 0 to"),
        ({"vocab": {"a": "1"}}, "must have token ids from 0 to"),
        ({"vocab": [["a", 0.5]]}, "must map every token of its vocabulary to an id"),
        ({"vocab": []}, "must map every token of its vocabulary to an id"),
        ({"vocab": None}, "must map every token of its vocabulary to an id"),
    ],
)
def test_malformed_vocabulary_or_merges_are_refused_before_they_are_loaded(folder, guard, monkeypatch, model, rule):
    bad.change_json(folder / "tokenizer.json", "model", **model)
    monkeypatch.setattr(CLIPTokenizer, "from_pretrained", None)
    assert guard(lambda: read_tokenizer(folder)).startswith(f"{folder / 'tokenizer.json'} {rule}")


def check_unreadable(said, folder, reason):
    assert said.startswith(f"The CLIP tokenizer in {folder} cannot be read: ")
    assert reason in said


@pytest.mark.parametrize(
    ("merges", "reason"),
    [
        ([["no", "such"]], "Token `such` out of vocabulary"),
        ([["", ""]], "Token `` out of vocabulary"),
        (["a"], "Merges"),
        (["a b c"], "Merges"),
    ],
)
def test_merges_that_are_no_pairs_of_tokens_are_refused(folder, guard, merges, reason):
    bad.change_json(folder / "tokenizer.json", "model", merges=merges)
    check_unreadable(guard(lambda: read_tokenizer(folder)), folder, reason)


@pytest.mark.parametrize(
    ("merges", "tokens"),
    [([], ["n", "o", "t", "o</w>"]), ([["n", "o"]], ["no", "t", "o</w>"]), (["n o"], ["no", "t", "o</w>"])],
)
def test_valid_merges_are_loaded(folder, guard, merges, tokens):
    bad.change_json(folder / "tokenizer.json", "model", merges=merges)
    assert not guard(lambda: read_tokenizer(folder))
    assert read_tokenizer(folder).tokenize("noto") == tokens


def test_valid_vocabulary_is_loaded(folder, guard):
    vocab = {START: 0, END: 1, "a</w>": 7}
    bad.change_json(folder / "tokenizer.json", "model", vocab=vocab, merges=[])
    assert not guard(lambda: read_tokenizer(folder))
    assert read_tokenizer(folder)("a").input_ids == [0, 7, 1]


@pytest.mark.parametrize("vocab", [{}, {"a": 0}, {"a": 0, "b": 0}, {"": 0}, {"a" * 100_000: 0}, {"a": 9_999_999}])
def test_dual_encoder_with_a_tiny_vocabulary_is_refused(copy, guard, vocab):
    folder = copy("clip")
    bad.change_json(folder / "tokenizer.json", "model", vocab=vocab, merges=[])
    assert guard(lambda: DualEncoder.load(folder))


@pytest.mark.parametrize(
    "added",
    [
        5,
        [5],
        [{}],
        [{"id": 0}],
        [{"id": 0, "content": ""}],
        [{"id": 0, "content": "a" * 5000}],
        [{"id": -1, "content": "a"}],
        [{"id": 1 << 70, "content": "a"}],
        [{"id": "0", "content": "a"}],
        [{"id": n, "content": f"t{n}"} for n in range(20_000)],
    ],
)
def test_invalid_added_tokens_are_refused(folder, guard, added):
    bad.change_json(folder / "tokenizer.json", added_tokens=added)
    assert guard(lambda: read_tokenizer(folder))


HARMLESS: list[dict[str, Any]] = [
    {"auto_map": {"AutoTokenizer": [f"{bad.MODULE}.A", f"{bad.MODULE}.B"]}},
    {"tokenizer_class": f"{bad.MODULE}.Tokenizer"},
    {"tokenizer_class": "LlamaTokenizer", "backend": bad.MODULE, "processor_class": bad.MODULE},
    {"tokenizer_file": "../outside/pickle.bin"},
    {"vocab_file": "/etc/passwd", "merges_file": "/dev/zero"},
    {"fast_tokenizer_files": ["../outside/pickle.bin", "tokenizer.99.json"]},
    {"init_inputs": ["/etc/passwd"]},
    {"chat_template": "{{ ''.__class__.__mro__[1].__subclasses__() }}"},
    {"chat_template": [{"name": "a", "template": "{% for x in range(10**9) %}{% endfor %}"}]},
    {"gguf_file": "model.gguf"},
    {"name_or_path": "../outside", "is_local": False, "local_files_only": False},
    {"fix_mistral_regex": True},
    {"model_specific_special_tokens": {"evil_token": bad.MODULE}},
    {"__class__": bad.MODULE, "_tokenizer": bad.MODULE, "model": bad.MODULE},
    {"padding_side": bad.MODULE, "truncation_side": 5},
    {"split_special_tokens": bad.MODULE},
]


@pytest.mark.parametrize("changes", HARMLESS)
def test_settings_unknown_to_clip_tokenizers_are_ignored(folder, guard, changes):
    bad.change_json(folder / "tokenizer_config.json", **changes)
    assert not guard(lambda: read_tokenizer(folder))


@pytest.mark.parametrize(
    "changes",
    [
        {"model_max_length": 0},
        {"model_max_length": -5},
        {"model_max_length": float("nan")},
        {"model_max_length": float("inf")},
        {"model_max_length": "77"},
        {"model_max_length": True},
        {"pad_token": 5},
        {"pad_token": ["a"]},
        {"pad_token": {"content": 5}},
        {"bos_token": "a" * 5000},
        {"eos_token": {"__type": bad.MODULE}},
        {"additional_special_tokens": [f"t{n}" for n in range(20_000)]},
        {"extra_special_tokens": [5]},
        {"added_tokens_decoder": {"a": {"content": "a"}}},
        {"added_tokens_decoder": {"-1": {"content": "a"}}},
        {"added_tokens_decoder": {"0": 5}},
    ],
)
def test_invalid_tokenizer_settings_are_refused(folder, guard, changes):
    bad.change_json(folder / "tokenizer_config.json", **changes)
    assert guard(lambda: read_tokenizer(folder))


@pytest.mark.parametrize(
    "file", ["chat_template.jinja", "additional_chat_templates/a.jinja", "tokenizer.model", "tekken.json"]
)
def test_files_of_other_tokenizers_are_not_opened(folder, guard, file):
    (folder / file).parent.mkdir(exist_ok=True)
    os.mkfifo(folder / file)
    (folder / f"{bad.MODULE}.py").write_text(f"open({str(guard.mark)!r}, 'w')\n")
    assert not guard(lambda: read_tokenizer(folder))


def write_merges_file(folder, content):
    """Replace tokenizer.json by vocab.json and merges.txt."""
    table = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(json.dumps(table["vocab"]))
    (folder / "merges.txt").write_bytes(content)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"a", "Merges text file invalid at line 1"),
        (b"#version: 0.2\nn o\na b c", "Merges text file invalid at line"),
        (b"no such", "Token `such` out of vocabulary"),
        (b"\0" * 100, "Merges text file invalid at line 1"),
    ],
)
def test_merges_file_without_pairs_of_tokens_is_refused(folder, guard, content, reason):
    write_merges_file(folder, content)
    check_unreadable(guard(lambda: read_tokenizer(folder)), folder, reason)


@pytest.mark.parametrize("content", ["\ud800".encode("utf-8", "surrogatepass"), b"\xff\xfe"])
def test_merges_file_that_is_no_text_is_refused(folder, guard, content):
    write_merges_file(folder, content)
    assert guard(lambda: read_tokenizer(folder)).startswith(f"{folder / 'merges.txt'} is not UTF-8 text")


@pytest.mark.parametrize("content", [b"n o", b"#version: 0.2\nn o\n"])
def test_valid_merges_file_is_loaded(folder, guard, content):
    write_merges_file(folder, content)
    assert not guard(lambda: read_tokenizer(folder))
    assert read_tokenizer(folder).tokenize("noto") == ["no", "t", "o</w>"]
