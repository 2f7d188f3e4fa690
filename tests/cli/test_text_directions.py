"""Commands that create, show and use text directions of pix2pix-zero and their banks of sentences."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sfumato.api import load
from sfumato.errors import BadInput
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.shifts.banks import templated
from sfumato.shifts.text_direction import TextDirection

MAKE = ("directions", "text", "-o", "d.safetensors")
EDIT = ("edit", "photo.png", "--from", "red cat", "--method", "pix2pix-zero", "--steps", 4)


@pytest.fixture
def model(tiny_sd_folder):
    return ("--model", tiny_sd_folder)


@pytest.fixture
def made(sfumato, model):
    run = sfumato(*MAKE, "--source-word", "cat", "--target-word", "dog", *model)
    assert run.code == 0, run.err
    return run


def pixels(name):
    return np.asarray(Image.open(name))


def test_saved_direction_gives_the_edit_of_its_words(sfumato, made, model):
    """Bit for bit, with and without a target prompt, from the image and from a saved inversion."""
    assert made.files == {"d.safetensors"}
    by_words = sfumato(*EDIT, "--to", "red dog", *model, "--source-word", "cat", "--target-word", "dog", "-o", "w.png")
    assert by_words.code == 0, by_words.err
    assert sfumato(*EDIT, "--to", "anything", *model, "--direction-file", "d.safetensors", "-o", "a.png").code == 0
    assert sfumato(*EDIT, *model, "--direction-file", "d.safetensors", "-o", "b.png").code == 0
    kept = ("--from", "red cat", "--method", "pix2pix-zero", "--steps", 4)
    assert sfumato("invert", "photo.png", *kept, "-o", "kept.safetensors", *model).code == 0
    assert sfumato("edit", "kept.safetensors", "--direction-file", "d.safetensors", "-o", "c.png", *model).code == 0
    assert sfumato(*EDIT, *model, "--direction-file", "d.safetensors", "--scale", 0, "-o", "none.png").code == 0
    for name in ("a.png", "b.png", "c.png"):
        assert np.array_equal(pixels(name), pixels("w.png")), name
    assert not np.array_equal(pixels("none.png"), pixels("w.png"))


def test_equal_words_and_banks_are_noted(sfumato, model, folder):
    with pytest.raises(BadInput, match="are equal"):
        load(str(model[1]), "cpu").text_direction("cat", "cat ")
    (folder / "bank.txt").write_text("a cat\nred cat\n")
    for side, given in (("word", "cat"), ("bank", "bank.txt")):
        words = (*EDIT, f"--source-{side}", given, f"--target-{side}", given, "-o", "out.png", "--json", *model)
        assert "pix2pix-zero had no effect: the source" in sfumato(*words).json["notes"][-1]


def test_bank_file_is_written_and_used(sfumato, model):
    assert sfumato("directions", "bank", "cat", "-o", "cats.txt").files == {"cats.txt"}
    bank = Path("cats.txt")
    assert bank.read_text().splitlines() == templated("cat")
    bank.write_text("red cat\n\nblue cat\n")
    found = sfumato(*MAKE, "--source-bank", "cats.txt", "--target-word", "dog", "--json", *model).json
    assert (found["kind"], found["tokens"], found["pooled"]) == ("text", [77, 16], None)
    assert (found["source"], found["target"]) == (["red cat", "blue cat"], templated("dog"))


def test_show_and_list_print_the_content_of_files(sfumato, made, model):
    assert ["cat", "dog"] in [line.split() for line in made.out.splitlines()]
    assert sfumato("directions", "show", "d.safetensors").out == made.out
    assert sfumato("directions", "show", "d.safetensors", "--json").json["target"] == templated("dog")
    find = ("directions", "find", "-n", 2, "--samples", 3, "--steps", 4, "-o", "others.safetensors")
    assert sfumato(*find, *model).code == 0
    both = sfumato("directions", "list", ".", "--json").json["files"]
    assert [each["kind"] for each in both] == ["text", "pullback"]
    assert "cat -> dog" in sfumato("directions", "list", "d.safetensors").out


def test_methods_reject_the_other_kind_of_direction_file(sfumato, made, model):
    """Pullback directions and text directions are both stored in .safetensors files."""
    find = ("directions", "find", "-n", 2, "--samples", 3, "--steps", 4, "--size", "32x24", "-o", "others.safetensors")
    assert sfumato(*find, *model).code == 0
    edit = ("edit", "photo.png", "--from", "red cat", "-o", "out.png", "--steps", 4, *model)
    assert sfumato(*edit, "--method", "pullback", "--directions", "others.safetensors").code == 0
    refused = sfumato(*edit, "--method", "pullback", "--directions", "d.safetensors").refused()
    assert "not a set of directions: give" in refused
    refused = sfumato(*edit, "--method", "pix2pix-zero", "--direction-file", "others.safetensors").refused()
    assert "not a text direction: give" in refused


def test_commands_for_pullback_directions_reject_text_directions(sfumato, made):
    for words in (("show", "d.safetensors", "photo.png", "-o", "s.png"), ("name", "d.safetensors", "1=x")):
        assert "--method pix2pix-zero --direction-file d.safetensors" in sfumato("directions", *words).refused()
    assert (
        "contains a text direction"
        in sfumato("directions", "apply", "photo.png", "d.safetensors", "-o", "o.png").refused()
    )


def test_direction_of_another_model_is_rejected_before_evaluations(sfumato, made, tiny_sd2_folder, monkeypatch):
    monkeypatch.setattr(DiffusionModel, "_forward", lambda *_: pytest.fail("the network was evaluated"))
    words = ("--direction-file", "d.safetensors", "-o", "out.png", "--model", tiny_sd2_folder)
    assert "another model" in sfumato(*EDIT, *words).refused()


def test_python_api_gives_the_same_direction(made, tiny_sd_folder):
    model = load(str(tiny_sd_folder))
    found = model.text_direction("cat", "dog")
    saved = TextDirection.load("d.safetensors")
    assert (found.tokens == saved.tokens).all()
    assert model.text_direction(["red cat", "blue cat"], "dog").source == ("red cat", "blue cat")


WORDS = "--source-word cat --target-word dog"
MISTAKES = {
    f"text {WORDS} -o there.safetensors --model nosuch": "there.safetensors exists already",
    f"text {WORDS} -o d.png --model nosuch": "written to a .safetensors file",
    f"text {WORDS} -o nosuch/d.safetensors --model nosuch": "in a folder that exists",
    f"text {WORDS} -o d.safetensors --model nosuch": "no model nosuch",
    "text --target-word dog -o d.safetensors --model nosuch": "one of --source-word and --source-bank",
    f"text {WORDS} --target-bank two.txt -o d.safetensors --model nosuch": "one of --target-word and --target-bank",
    "text --source-word cat --target-word cat -o d.safetensors --model nosuch": "so that it is zero: give different",
    "text --source-bank two.txt --target-bank same.txt -o d.safetensors --model nosuch": "so that it is zero",
    "text --source-bank one.txt --target-word dog -o d.safetensors --model nosuch": "one.txt needs at least 2",
    "text --source-bank none.txt --target-word dog -o d.safetensors --model nosuch": "none.txt does not exist",
    "text --source-bank long.txt --target-word dog -o d.safetensors --model tiny": "at most 75: shorten",
    "text --source-word cat --target-word <|endoftext|> -o d.safetensors --model tiny": "without words for this model",
    f"text {WORDS} -o d.safetensors --model pixels": "no text input",
    "bank cat -o there.txt": "there.txt exists already",
    "bank cat -o bank.png": "written to a .txt file",
}


@pytest.mark.parametrize("typed", MISTAKES)
def test_invalid_input_is_rejected(sfumato, folder, typed, tiny_sd_folder, tiny_ddpm_folder):
    (folder / "tiny").symlink_to(tiny_sd_folder)
    (folder / "pixels").symlink_to(tiny_ddpm_folder)
    texts = {"one.txt": "cat\n", "two.txt": "a\nb\n", "same.txt": "a\n\nb \n", "long.txt": "a cat\n" + "cat " * 100}
    for name, text in texts.items():
        (folder / name).write_text(text)
    for name in ("there.safetensors", "there.txt"):
        (folder / name).touch()
    assert MISTAKES[typed] in sfumato("directions", *typed.split()).refused()


@pytest.mark.parametrize("action", ["text", "bank"])
def test_help_fits_one_screen(sfumato, action, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    lines = sfumato("directions", action, "--help").out.splitlines()
    assert f"sfumato directions {action}" in lines[0]
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 100
