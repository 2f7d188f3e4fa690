"""`sfumato edit --recipe`: repeats an edit or applies it to another image; untrusted recipes open no files."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sfumato.api import load
from sfumato.images.recipe import read_recipe
from sfumato.images.write import write_image
from tests.tiny import tiny_image

FAST = ("--steps", 4, "--skip", 1)


@pytest.fixture
def edit(sfumato, tiny_sd_folder, monkeypatch):
    """Run edits with a tiny default model."""
    monkeypatch.setenv("SFUMATO_MODEL", str(tiny_sd_folder))
    return lambda *words: sfumato("edit", *words)


@pytest.fixture(scope="module")
def edited_once(tiny_sd_folder, tmp_path_factory):
    """The content of the file that an edit of photo.png writes."""
    folder = tmp_path_factory.mktemp("once")
    tiny_image(30, 22).save(folder / "photo.png")
    inverted = load(str(tiny_sd_folder), "cpu").invert(folder / "photo.png", "red cat", steps=4)
    inverted.edit("green cat", skip=1).save(folder / "out.png")
    return (folder / "out.png").read_bytes()


def same(first, second):
    with Image.open(first) as one, Image.open(second) as other:
        return np.array_equal(np.asarray(one), np.asarray(other))


def written(recipe, **changes):
    """Write the recipe of out.png with changed values to changed.png; returns the arguments that repeat it."""
    found = read_recipe("out.png") | changes
    write_image("changed.png", np.asarray(tiny_image(30, 22)), None, found)
    return ("--recipe", "changed.png", "-o", "again.png")


ONE = ("photo.png", "--from", "red cat", "--to", "green cat", "-o", "out.png", *FAST)
EDITS = {
    "plain": (*ONE, "--seed", 7, "--guidance", 3, "--no-residual", "--exact"),
    "negative": (*ONE, "--negative-prompt", "dog", "--guidance", 4.25),
    "method": (*ONE, "--method", "prompt-to-prompt", "--reweight", "green=2", "--no-swap", "--inversion", "ddim"),
    "methods": (*ONE, "--method", "prompt-to-prompt", "--method", "pix2pix-zero", "--self-steps", "0.1"),
    "mask": (*ONE, "--mask", "masks/mask.png"),
    "holes": (*ONE, "--mask", "masks/holes.png", "--mask-transparent"),
    "region": (*ONE, "--mask-words", "cat,green", "--mask-threshold", "0.2"),
    "difference": (*ONE, "--mask-difference", "--mask-threshold", "0.5"),
    "no target": (*ONE[:3], "-o", "out.png", *FAST, "--method", "colour", "--colour", "#33f", "--eta", "0.5"),
    "resolution": (*ONE, "--resolution", 16),
}


@pytest.mark.parametrize("name", EDITS)
def test_recipe_repeats_the_edit_exactly(edit, folder, name):
    (folder / "masks").mkdir()
    mask = np.zeros((22, 30), np.uint8)
    mask[:, 10:] = 255
    Image.fromarray(mask).save("masks/mask.png")
    Image.fromarray(np.dstack([np.asarray(tiny_image(30, 22)), 255 - mask])).save("masks/holes.png")
    first = edit(*EDITS[name])
    assert first.code == 0, first.err
    shutil.copytree("masks", ".", dirs_exist_ok=True)
    again = edit("--recipe", "out.png", "-o", "again.png")
    assert again.code == 0, again.err
    assert same("out.png", "again.png")
    recipes = [read_recipe(path) for path in ("out.png", "again.png")]
    assert recipes[0] == recipes[1]


def test_flags_and_images_override_the_recipe(edit, folder):
    tiny_image(22, 30, seed=1).save(folder / "other.png")
    edit(*ONE, "--method", "prompt-to-prompt", "--inversion", "ddim")
    run = edit("--recipe", "out.png", "other.png", "--to", "a dog", "-o", "second.png", "--steps", 3)
    assert run.code == 0, run.err
    first, second = read_recipe("out.png"), read_recipe("second.png")
    assert second["image"]["name"] == "other.png"
    changed = {name for name in first if first[name] != second[name]}
    assert changed == {"image", "prompt", "steps", "edited_size"}
    run = edit("--recipe", "out.png", "-o", "third.png", "--method", "ddim", "--steps", 3, "--skip", 0)
    assert (read_recipe("third.png")["method"], read_recipe("third.png")["prompt"]) == ("ddim", "green cat"), run.err


def test_direction_file_is_identified_by_its_content(edit, sfumato, folder):
    (folder / "files").mkdir()
    words = ("--source-word", "cat", "--target-word", "dog")
    assert sfumato("directions", "text", *words, "-o", "files/d.safetensors").code == 0
    flags = ("--method", "pix2pix-zero", "--direction-file", "files/d.safetensors")
    assert edit(*ONE[:3], "-o", "out.png", "--steps", 3, *flags).code == 0
    again = ("--recipe", "out.png", "-o", "again.png")
    assert "needs d.safetensors" in edit(*again).refused()
    (folder / "d.safetensors").write_bytes(b"another file")
    assert "needs d.safetensors" in edit(*again).refused()
    run = edit(*again, "--direction-file", "files/d.safetensors")
    assert run.code == 0, run.err
    assert same("out.png", "again.png")
    shutil.copy("files/d.safetensors", "d.safetensors")
    assert edit(*again).code == 0


def test_max_pixels_applies_to_the_image_with_the_recipe(edit, folder, edited_once):
    Path("out.png").write_bytes(edited_once)
    tiny_image(16, 16).save(folder / "small.png")
    run = edit("--recipe", "out.png", "small.png", "-o", "again.png", "--max-pixels", 300)
    assert "out.png has 30 x 22 = 660 pixels, more than the limit of 300" in run.refused()


def test_recipe_repeats_an_edit_of_a_saved_inversion(edit, sfumato):
    words = ("--from", "red cat", "--steps", 2, "--seed", 5)
    assert sfumato("invert", "photo.png", *words, "-o", "photo.safetensors").code == 0
    assert edit("photo.safetensors", "--to", "green cat", "--skip", 1, "-o", "out.png").code == 0
    assert read_recipe("out.png")["image"]["name"] == "photo.png"
    again = edit("--recipe", "out.png", "-o", "again.png")
    assert again.code == 0, again.err
    assert same("out.png", "again.png")


def test_another_model_is_reported(edit, tiny_sd2_folder):
    edit(*ONE)
    run = edit("--recipe", "out.png", "-o", "again.png", "--model", tiny_sd2_folder)
    assert "made with another model" in run.err


def test_missing_inputs_are_rejected(edit, folder, monkeypatch):
    edit(*ONE)
    again = ("--recipe", "out.png", "-o", "again.png")
    Path("photo.png").rename("moved.png")
    assert "made from photo.png, which is neither next to it nor in the working folder" in edit(*again).refused()
    tiny_image(30, 22, seed=5).save("photo.png")
    assert "made from photo.png" in edit(*again).refused()
    assert edit(*again, "moved.png").code == 0
    monkeypatch.delenv("SFUMATO_MODEL")
    assert "give its folder, file or hub id as --model" in edit("--recipe", "out.png", "-o", "third.png").refused()
    assert "contains no sfumato recipe" in edit("--recipe", "moved.png", "-o", "o.png").refused()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"operation": "generate"}, "was not made by an edit"),
        ({"methods": [{"shift": "Mine"}]}, "shifts of a Python program"),
        ({"methods": [{"method": "nosuch"}]}, "no method 'nosuch'"),
        ({"methods": 3}, "incomplete or of another version"),
        ({"steps": "many"}, "'many' is not an integer"),
        ({"steps": 10**9}, "between 1 and 1000"),
        ({"seed": None}, "incomplete or of another version"),
        ({"source_prompt": ["x"]}, "incomplete or of another version"),
        ({"mask": {"name": "/etc/passwd", "sha256": ""}, "masked": True}, "needs /etc/passwd"),
        ({"mask": {"name": "../photo.png", "sha256": ""}, "masked": True}, "needs ../photo.png"),
        ({"image": {"name": "/etc/passwd", "sha256": ""}}, "made from /etc/passwd"),
        ({"model": "stranger/model"}, "give its folder, file or hub id as --model"),
        ({"masked": True}, "with a mask that was not a file"),
    ],
)
def test_untrusted_or_invalid_recipe_is_rejected(edit, edited_once, changes, complaint):
    Path("out.png").write_bytes(edited_once)
    assert complaint in edit(*written("out.png", **changes)).refused()


def test_recipe_opens_no_file_without_its_hash(edit, folder):
    """Neither a local file nor a repository of the hub is opened because a recipe names it."""
    edit(*ONE, "--method", "diffuseit", "--loss-scale", 0)
    (folder / "secret.png").write_bytes(Path("photo.png").read_bytes())
    part = {**read_recipe("out.png")["methods"][0], "target_image": "secret.png"}
    assert "needs secret.png" in edit(*written("out.png", methods=[part], target_image="secret.png")).refused()
    part |= {"target_image": "", "clip_folder": "stranger/clip"}
    assert "needs stranger/clip" in edit(*written("out.png", methods=[part], clip_folder="stranger/clip")).refused()


def test_repeated_edit_reports_the_same_parameters(edit):
    first = edit(*ONE, "--json").json
    second = json.loads(edit("--recipe", "out.png", "-o", "out2.png", "--json").out)
    assert {k: first["parameters"][k] for k in ("steps", "skip", "seeds")} == {
        k: second["parameters"][k] for k in ("steps", "skip", "seeds")
    }
