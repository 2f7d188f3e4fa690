"""Directions between banks of sentences: values against the text encoders' states, files and refusals."""

from dataclasses import replace

import pytest
import torch

from sfumato.errors import BadInput
from sfumato.methods.pix2pix_zero import differing
from sfumato.models.load import load_model
from sfumato.models.text import read
from sfumato.shifts import text_direction as module
from sfumato.shifts.banks import TEMPLATES, read_bank, templated
from sfumato.shifts.text_direction import MoveCondition, TextDirection, text_direction
from tests import tiny

CATS = ["red cat", "blue cat", "cat face", "one cat on a tree"]
DOGS = ["red dog", "dog star", "dog"]


@pytest.fixture(scope="module", params=["sd", "sd2", "sdxl"])
def model(request, tiny_folder):
    return load_model(tiny_folder(request.param), "cpu")


@pytest.fixture(scope="module")
def sd(tiny_sd_folder):
    return load_model(tiny_sd_folder, "cpu")


def states(model, sentences):
    """Mean states and pooled vector, directly from the text encoders, one sentence at a time."""
    tokens, pooled = [], None
    for encoder in model.text_encoders:
        each = [encoder.encoder(encoder.tokenize([s])[0], output_hidden_states=True) for s in sentences]
        two = len(model.text_encoders) == 2
        tokens.append(torch.cat([e.hidden_states[-2] if two else e.last_hidden_state for e in each]).mean(dim=0))
        pooled = (
            torch.cat([e.text_embeds for e in each]).mean(dim=0) if two and encoder is model.text_encoders[1] else None
        )
    return torch.cat(tokens, dim=-1), pooled


def test_direction_is_the_difference_of_mean_states(model, monkeypatch):
    monkeypatch.setattr(module, "TOGETHER", 3)
    with torch.no_grad():
        (before, pooled), (after, pooled_after) = states(model, CATS), states(model, DOGS)
    found = text_direction(model, CATS, DOGS)
    assert torch.allclose(found.tokens, after - before, atol=1e-5)
    assert found.tokens.abs().max() > 0.1
    assert (found.pooled is None) == (pooled is None)
    if pooled is not None:
        assert torch.allclose(found.pooled, pooled_after - pooled, atol=1e-5)
    assert (found.source, found.target) == (tuple(CATS), tuple(DOGS))
    assert not text_direction(model, CATS, CATS).tokens.any()


def test_networks_that_take_maps_have_directions_too(tmp_path):
    network = load_model(tiny.tiny_inpainting(tmp_path / "m"), "cpu")
    found = text_direction(network, CATS, DOGS)
    torch.testing.assert_close(found.tokens, states(network, DOGS)[0] - states(network, CATS)[0], rtol=0, atol=1e-5)


def test_rows_are_moved_by_their_own_directions(model):
    there, back = text_direction(model, CATS, DOGS), text_direction(model, DOGS, CATS)
    condition = model.condition(["red cat", "blue dog"])
    moved = MoveCondition([there, back], 0.5).condition(None, condition)
    for row, each in enumerate((there, back)):
        assert torch.allclose(moved.tokens[row], condition.tokens[row] + 0.5 * each.tokens)
        if each.pooled is not None:
            assert torch.allclose(moved.pooled[row], condition.pooled[row] + 0.5 * each.pooled)
    assert len(moved.prompts) == 2


def test_directions_of_other_shapes_are_refused(model):
    condition = model.condition(["red cat"])
    found = text_direction(model, CATS, DOGS)
    wide = {"dimensions": replace(found, tokens=torch.cat([found.tokens, found.tokens], dim=1))}
    long = {"prompt_chunks": replace(found, tokens=torch.cat([found.tokens, found.tokens]))}
    for message, direction in (wide | long).items():
        with pytest.raises(BadInput, match=message):
            MoveCondition([found, direction]).condition(None, model.condition(["red cat", "dog"]))
    if found.pooled is not None:
        with pytest.raises(BadInput, match="dimensions"):
            MoveCondition([replace(found, pooled=None)]).condition(None, condition)


def test_save_and_load(model, sd, tmp_path):
    found = text_direction(model, CATS, DOGS)
    found.save(tmp_path / "d.safetensors")
    again = TextDirection.load(tmp_path / "d.safetensors")
    assert torch.equal(again.tokens, found.tokens)
    assert (again.pooled is None) == (found.pooled is None)
    assert (again.model, again.source, again.target) == (model.fingerprint(), tuple(CATS), tuple(DOGS))
    again.check_model(model.fingerprint())
    if model.fingerprint() != sd.fingerprint():
        with pytest.raises(BadInput, match="another model"):
            again.check_model(sd.fingerprint())


def test_files_without_a_direction_are_refused(sd, tmp_path):
    path = tmp_path / "d.safetensors"
    with pytest.raises(BadInput, match="There is no file"):
        TextDirection.load(path)
    path.write_bytes(b"nothing")
    with pytest.raises(BadInput, match="is a text that begins with"):
        TextDirection.load(path)
    TextDirection(torch.full((3, 2), torch.nan), None, "", ("a", "b"), ("c", "d")).save(path)
    with pytest.raises(BadInput, match="damaged"):
        TextDirection.load(path)
    text_direction(sd, CATS, DOGS).save(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BadInput, match=r"is cut short, .* bytes: download or copy it again"):
        TextDirection.load(path)


def test_banks_are_read_or_refused(sd, tiny_ddpm_folder, tmp_path):
    path = tmp_path / "cat.txt"
    path.write_text("\n red cat \n\nblue cat\n")
    assert read_bank(path) == ["red cat", "blue cat"]
    path.write_text("red cat\n\n")
    with pytest.raises(BadInput, match=r"cat\.txt needs at least 2 sentences, one per line, and has 1"):
        read_bank(path)
    path.write_bytes(b"\xff\xfe\xfa")
    for unreadable in (path, tmp_path, tmp_path / "none.txt"):
        with pytest.raises(BadInput, match=r"is not UTF-8|is a folder|does not exist"):
            read_bank(unreadable)
    with pytest.raises(BadInput, match="at least 2 sentences"):
        text_direction(sd, CATS, ["dog"])
    with pytest.raises(BadInput, match="has no text input"):
        text_direction(load_model(tiny_ddpm_folder, "cpu"), CATS, DOGS)


def test_templates_contain_the_word():
    assert len(set(templated("red cat"))) == len(TEMPLATES) >= 2
    assert all("red cat" in sentence for sentence in templated("red cat"))


DIFFERING = [
    ("red cat", "green dog", ("red cat", "green dog")),
    ("a red cat, twemoji", "a red dog, twemoji", ("cat", "dog")),
    ("a Cat", "A dog", ("Cat", "dog")),
    ("a cat", "a red cat", ("cat", "red cat")),
    ("a red cat", "a cat", ("red cat", "cat")),
    ("a cat", "a cat in a tree", ("cat", "cat in a tree")),
    ("cat cat", "cat", ("cat cat", "cat")),
    ("red cat", "red cat", ("", "")),
]


@pytest.mark.parametrize(("source", "target", "phrases"), DIFFERING)
def test_differing_phrases_of_two_prompts(sd, source, target, phrases):
    assert differing(*read(sd.text_encoders, [source, target])) == phrases
