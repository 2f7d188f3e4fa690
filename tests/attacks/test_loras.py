"""Malicious LoRA files: regular expressions with exponential run time, and invalid matrices and numbers."""

import json
import re
import time
from contextlib import contextmanager

import pytest
import torch
from safetensors.torch import save_file

from sfumato.errors import BadInput
from sfumato.models.lora_files import read_loras
from sfumato.models.lora_metadata import first_matches

NAMES = ["a" * 250 + "!", "b" * 250, "mid_block.attentions.0.to_k"]
PATTERNS = [
    "(a+)+",
    "(a|a)*",
    "(a|a)" * 38,
    "a?" * 60 + "a" * 60,
    "(.*a.*)*x",
    ".*" * 90 + "x",
    "((a*)*)*b",
    "(a|aa)+!!",
    "(a{1,90}){1,90}",
    "(?=(a+))a*b",
    r"(a*)\1",
    "[",
    "(",
    "*",
    "",
    "a" * 1_000_000,
    "(" * 100 + ")" * 100,
]


def write(path, patterns=None, **tensors):
    weights = {"unet.conv_in.lora_A.weight": torch.ones(1, 4), "unet.conv_in.lora_B.weight": torch.ones(8, 1)}
    weights |= {f"unet.{name}.{part}.weight": torch.ones(1, 1) for name in NAMES for part in ("lora_A", "lora_B")}
    about = {"unet.lora_alpha": 1, "unet.alpha_pattern": patterns} if patterns is not None else {}
    save_file(weights | tensors, path, {"lora_adapter_metadata": json.dumps(about)})
    return path


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern[:20])
def test_regular_expression_takes_at_most_2_seconds(pattern, tmp_path):
    path, start = write(tmp_path / "a.safetensors", {pattern: 3, "conv_in": 2}), time.process_time()
    with reported("in the alpha_pattern of its metadata, which is not supported"):
        (lora,) = read_loras(path)
        assert {each.layer: each.factor for each in lora.changes}["unet.conv_in"] == 2
    assert time.process_time() - start < 2


@contextmanager
def reported(sentence):
    """Allow a BadInput whose message contains `sentence`."""
    try:
        yield
    except BadInput as error:
        if sentence not in str(error):
            raise


def test_many_expressions_are_refused_but_many_names_are_accepted(tmp_path):
    names = [f"down_blocks.{n}.attentions.0.to_k" for n in range(3000)]
    start = time.process_time()
    assert dict(first_matches(dict.fromkeys(names, 1), names, "a")) == {name: name for name in names}
    assert time.process_time() - start < 2
    with pytest.raises(BadInput, match=r"has 3,000 expressions .* for 3,000 layers, which is more than is supported"):
        list(first_matches({f"{name}$": 1 for name in names}, names, "a"))


def test_first_match_equals_that_of_python_re():
    names = [
        f"{way}_blocks.{n}.attentions.{n}.attn{k}.to_{x}"
        for way in ("up", "down")
        for n in (0, 12)
        for k in (1, 2)
        for x in "kv"
    ]
    for patterns in (
        ["to_k", "attn1.to_v"],
        [r"attn\d\.to_(k|v)", "to_k"],
        ["n1.to_k", "up.*to_k", "^down.+", ".*"],
        ["0.attn1.to_k", "(up|down)_blocks.1?[0-2].*attn[^1].to_v", r"\w+\.\d+\.attentions.*k|to_v"],
        ["(?:attn1|attn2).to_k", r"attn\d.to_v$", "TO_K"],
    ):
        matching = {n: [p for p in patterns if re.match(rf"(.*\.)?({p})$", n)] for n in names}
        expected = {name: found[0] for name, found in matching.items() if found}
        assert dict(first_matches(dict.fromkeys(patterns, 1), names, "a")) == expected


@pytest.mark.parametrize(
    "tensors",
    [
        {"unet.conv_in.alpha": torch.ones(0)},
        {"unet.conv_in.alpha": torch.ones(2)},
        {"unet.conv_in.alpha": torch.tensor(torch.inf)},
        {"unet.conv_in.lora_A.weight": torch.tensor(1.0), "unet.conv_in.lora_B.weight": torch.ones(8, 2)},
        {"unet.conv_in.lora_A.weight": torch.ones(0, 4)},
        {"unet.conv_in.lora_B.weight": torch.ones(8, 0)},
    ],
)
def test_invalid_matrices_and_alpha_are_refused(tensors, tmp_path):
    path = write(tmp_path / "a.safetensors", **tensors)
    with pytest.raises(BadInput, match=r"is damaged: the matrices of 'unet\.conv_in' do not fit"):
        read_loras(path)


@pytest.mark.parametrize("alpha", [10**4000, "x", None, [1], "NaN", 1e400])
def test_invalid_alpha_in_the_metadata_is_refused(alpha, tmp_path):
    with pytest.raises(BadInput, match="is damaged"):
        read_loras(write(tmp_path / "a.safetensors", {"conv_in": alpha}))


@pytest.mark.parametrize("patterns", [[], ["x"], "x", 3])
def test_alpha_pattern_must_be_an_object_or_empty(patterns, tmp_path):
    path = write(tmp_path / "a.safetensors", patterns)
    if patterns:
        with pytest.raises(BadInput, match="alpha_pattern in its metadata is no table"):
            read_loras(path)
    else:
        assert read_loras(path)


def test_long_layer_names_are_refused(tmp_path):
    layers = {f"unet.{'a.' * 5000}x.{part}.weight": torch.ones(1, 1) for part in ("lora_A", "lora_B")}
    with pytest.raises(BadInput, match="is not a LoRA: it contains"):
        read_loras(write(tmp_path / "a.safetensors", **layers))
