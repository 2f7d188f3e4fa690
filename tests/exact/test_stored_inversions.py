"""Saved inversions from untrusted sources: valid ones are loaded, others refused in one line with the file name."""

import random
import re
from dataclasses import replace

import pytest
import torch

from sfumato.errors import BadInput
from sfumato.inversion import Inversion
from tests.stored import parts, write

ODD = [
    None,
    True,
    -1,
    0,
    10**400,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "x",
    [],
    [1],
    [[]],
    ["a"],
    [None],
    {},
    {"a": 1},
]
ODD += [[3, 2, 1], [1.5], [True, False], "[" * 3000 + "]" * 3000]


@pytest.fixture
def whole():
    """A complete inversion of two images over three steps."""
    draw = torch.Generator().manual_seed(0)
    return Inversion(
        "edit-friendly",
        torch.randn(4, 2, 3, 5, 6, generator=draw),
        torch.randn(3, 2, 3, 5, 6, generator=draw),
        (7, 4, 0),
        1.0,
        (3.5, 1.0),
        (0, 9),
        ("red cat", ""),
        {"method": "edit-friendly", "steps": 3},
        "f" * 64,
        ("a", "b"),
        torch.randint(0, 256, (2, 20, 24, 3), generator=draw, dtype=torch.uint8),
    )


@pytest.fixture
def stored(whole, tmp_path):
    """The header and the tensors of its saved file."""
    whole.save(tmp_path / "whole.safetensors")
    return parts(tmp_path / "whole.safetensors")


def refused(path):
    with pytest.raises(BadInput) as caught:
        Inversion.load(path)
    sentence = str(caught.value)
    assert path.name in sentence
    assert "\n" not in sentence
    assert sentence.endswith("invert the image again.")
    return sentence


WRONG = {
    "kind": 3,
    "timesteps": [
        [],
        [4, 7, 0],
        [7, 7, 0],
        [7, 4, -1],
        [7, 4, 0.0],
        [7, 4, "0"],
        [7, True, 0],
        [7, 4],
        [9, 7, 4, 0],
        7,
    ],
    "eta": [-0.1, 1.1, "1", None, True, float("nan"), 10**400],
    "guidance_scales": [[], [1.0], [1.0, "x"], [1.0, float("inf")], [1.0, 10**400], 3.5, [1.0, 2.0, 3.0]],
    "seeds": [[0], [0, 1.5], [0, None], "01", [0, True]],
    "prompts": [["x"], [1, 2], "xy", ["a", "b", "c"]],
    "parameters": [[], None, "steps"],
    "model": [None, 3],
    "images": [["a"], [None, "b"], "ab"],
}


def test_names_are_optional_and_one_per_image(stored, tmp_path):
    header, tensors = stored
    for names in (["a"], [None, "b"], "ab"):
        write(tmp_path / "odd.safetensors", header | {"names": names}, tensors)
        assert "names" in refused(tmp_path / "odd.safetensors")
    write(tmp_path / "named.safetensors", header | {"names": ["a.png", "b.png"]}, tensors)
    assert Inversion.load(tmp_path / "named.safetensors").rows([1, 0, 1]).names == ("b.png", "a.png", "b.png")
    write(tmp_path / "old.safetensors", {name: header[name] for name in header if name != "names"}, tensors)
    assert Inversion.load(tmp_path / "old.safetensors").names == ()


def _flat(value):
    return value if isinstance(value, list) else []


@pytest.mark.parametrize("name", WRONG)
def test_invalid_header_entry_is_refused_with_its_name(stored, tmp_path, name):
    header, tensors = stored
    for value in WRONG[name] if isinstance(WRONG[name], list) else [WRONG[name]]:
        write(tmp_path / "odd.safetensors", header | {name: value}, tensors)
        sentence = refused(tmp_path / "odd.safetensors")
        long = "more than 100 digits" in sentence and any(each == 10**400 for each in [value, *_flat(value)])
        assert name in sentence or long or (name == "timesteps" and "steps" in sentence), (value, sentence)
    write(tmp_path / "odd.safetensors", {k: v for k, v in header.items() if k != name}, tensors)
    assert name in refused(tmp_path / "odd.safetensors")


@pytest.mark.parametrize("header", ["null", "[]", "{", "3", "", "[" * 100_000, '{"kind": 1}', "NaN", '"' + "x" * 9])
def test_invalid_headers_are_refused(stored, tmp_path, header):
    _, tensors = stored
    write(tmp_path / "odd.safetensors", header, tensors)
    refused(tmp_path / "odd.safetensors")


TENSORS = {
    "x": [
        lambda x: x[1:],
        lambda x: x[:, :1],
        lambda x: x[0],
        lambda x: x.long(),
        lambda x: x.half(),
        lambda x: x[..., :0],
        lambda x: x / 0,
        None,
    ],
    "z": [
        lambda z: z[:2],
        lambda z: z[..., :-1],
        lambda z: z.flatten(),
        lambda z: z.int(),
        lambda z: z * torch.nan,
        None,
    ],
    "pixels": [lambda p: p[:1], lambda p: p[0], lambda p: p[..., :1], lambda p: p.float(), lambda p: p[:, :0]],
    "more": [lambda _: torch.zeros(1)],
}


@pytest.mark.parametrize("name", TENSORS)
def test_invalid_tensor_is_refused_with_its_name(stored, tmp_path, name):
    header, tensors = stored
    for change in TENSORS[name]:
        changed = {key: tensor for key, tensor in tensors.items() if key != name}
        if change is not None:
            changed[name] = change(tensors.get(name))
        write(tmp_path / "odd.safetensors", header, changed)
        sentence = refused(tmp_path / "odd.safetensors")
        complaint = sentence.removeprefix(str(tmp_path / "odd.safetensors"))
        assert re.search(rf"\b{name}\b" if name != "more" else "its tensors must be", complaint), sentence


def test_optional_entries_may_be_missing(whole, tmp_path):
    bare = replace(whole, z=None, eta=0.0, pixels=None, seeds=(), prompts=(), images=(), model="", parameters={})
    for made in (bare, replace(whole, x=whole.x.double(), pixels=None), replace(whole, eta=0.0)):
        made.save(tmp_path / "a.safetensors")
        loaded = Inversion.load(tmp_path / "a.safetensors")
        assert torch.equal(loaded.x, made.x)
        assert (loaded.z is None, loaded.pixels is None) == (made.z is None, made.pixels is None)
        assert loaded.prompts == made.prompts


def mutated(draw, header, tensors):
    """The header and the tensors with one to three random changes."""
    header, tensors = dict(header), dict(tensors)
    for _ in range(draw.randint(1, 3)):
        name = draw.choice(list(header) or ["kind"])
        act = draw.randrange(5)
        if act == 0:
            header[name] = draw.choice(ODD)
        elif act == 1 and isinstance(header.get(name), list) and header[name]:
            header[name] = [*header[name][:-1], draw.choice(ODD)]
        elif act == 2:
            header.pop(name, None)
        elif act == 3 and tensors:
            tensors.pop(draw.choice(list(tensors)))
        elif tensors:
            name = draw.choice(list(tensors))
            tensors[name] = draw.choice(
                [
                    lambda t: t[:-1] if t.ndim else t,
                    lambda t: t.flatten(),
                    lambda t: t.float() / 0,
                    lambda t: t.to(torch.uint8),
                    lambda t: t.transpose(0, -1),
                    lambda t: t.double(),
                    lambda t: t.sum(),
                ]
            )(tensors[name])
    return header, tensors


@pytest.mark.parametrize("seed", range(8))
def test_randomly_modified_files_are_loaded_or_refused(stored, tmp_path, seed):
    header, tensors = stored
    draw = random.Random(seed)
    path = tmp_path / "odd.safetensors"
    read, sentences = 0, []
    for _ in range(60):
        write(path, *mutated(draw, header, tensors))
        try:
            made = Inversion.load(path)
        except BadInput as error:
            sentences.append(str(error))
        else:
            read += 1
            assert len(made.x) == made.steps + 1
            assert len(made.guidance_scales) == made.x.shape[1]
            assert made.z is None or made.z.shape == made.x[1:].shape
            assert made.x.isfinite().all()
    assert read + len(sentences) == 60
    assert all("odd.safetensors" in sentence and "\n" not in sentence for sentence in sentences)
    assert sentences
