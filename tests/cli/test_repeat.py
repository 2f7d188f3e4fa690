"""`sfumato edit --recipe`: repeats an edit or applies it to another image."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sfumato.api import load
from sfumato.cli.recipe_files import mask_flags
from sfumato.images import MAX_PIXELS, read_mask
from sfumato.images.recipe import read_recipe
from tests.cli.repeating import AGAIN, FAST, ONE, same, written
from tests.tiny import tiny_image


@pytest.fixture(scope="module")
def edited_once(tiny_sd_folder, tmp_path_factory):
    """The content of the file that an edit of photo.png writes."""
    folder = tmp_path_factory.mktemp("once")
    tiny_image(30, 22).save(folder / "photo.png")
    inverted = load(str(tiny_sd_folder), "cpu").invert(folder / "photo.png", "red cat", steps=4)
    inverted.edit("green cat", skip=1).save(folder / "out.png")
    return (folder / "out.png").read_bytes()


EDITS = {
    "plain": (*ONE, "--seed", 7, "--guidance", 3, "--no-residual", "--exact"),
    "negative": (*ONE, "--negative-prompt", "dog", "--guidance", 4.25),
    "method": (*ONE, "--method", "prompt-to-prompt", "--reweight", "green=2", "--no-swap", "--inversion", "ddim"),
    "methods": (*ONE, "--method", "prompt-to-prompt", "--method", "pix2pix-zero", "--self-steps", "0.1"),
    "box": (*ONE, "--method", "self-guidance", "--box", "cat: 0.1, 0.2, 0.5, 0.9"),
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


def test_mask_of_a_recipe_is_read_with_the_flags_that_it_needs(folder):
    """The levels look like a picture, so both masks are refused without --mask-as-is."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    Image.fromarray(noise).save("noise.png")
    Image.fromarray(np.dstack([np.zeros((64, 64, 3), np.uint8), 255 - noise])).save("soft.png")
    sha256 = read_mask(Image.fromarray(noise), (64, 64), as_is=True).sha256
    for name, flags in {"noise.png": ["--mask-as-is"], "soft.png": ["--mask-transparent", "--mask-as-is"]}.items():
        assert mask_flags("out.png", name, sha256, MAX_PIXELS) == {"--mask": [name], **{flag: [] for flag in flags}}


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


def test_mask_and_tiles_of_the_recipe_can_be_left_out(edit, folder):
    """The message about a mask that does not fit names the recipe and the flag; the mask need not exist."""
    Image.fromarray(np.full((22, 30), 255, np.uint8)).save("mask.png")
    tiny_image(40, 48).save("other.png")
    assert edit(*ONE, "--mask", "mask.png", "--resolution", "full", "--tiles").code == 0
    again = ("other.png", *AGAIN, "--resolution", "native")
    assert "; --no-mask leaves out a mask of the recipe of out.png." in edit(*again).refused()
    Path("mask.png").unlink()
    assert "give --mask or --no-mask." in edit(*again).refused()
    assert (
        edit(*again, "--no-mask", "--mask-words", "cat").refused() == "sfumato: give --no-mask or a mask, not both.\n"
    )
    run = edit(*again, "--no-mask")
    assert run.code == 0, run.err
    found = read_recipe("again.png")
    assert (found["masked"], found.get("tiles", False), found["resolution"]) == (False, False, "native")
    Path("p.toml").write_text('[edit]\nmask = "nosuch.png"\nmask-words = "cat"\ntiles = true\nresolution = "full"\n')
    assert edit(*ONE, "--preset", "p.toml", "--no-mask", "--resolution", "native").code == 0
    assert (read_recipe("out.png")["masked"], "region" in read_recipe("out.png")) == (False, False)


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


def test_repeated_edit_reports_the_same_parameters(edit):
    first = edit(*ONE, "--json").json
    second = json.loads(edit("--recipe", "out.png", "-o", "out2.png", "--json").out)
    assert {k: first["parameters"][k] for k in ("steps", "skip", "seeds")} == {
        k: second["parameters"][k] for k in ("steps", "skip", "seeds")
    }


def test_prompt_weights_and_chunks_are_repeated_with_a_typed_model(edit, tiny_sd_folder):
    weighted = (*ONE[:3], "--to", "(green:1.8) cat", *ONE[5:], "--guidance", 6, "--prompt-weights")
    assert edit(*weighted, "--prompt-chunks", 2).code == 0
    assert edit(*AGAIN, "--model", tiny_sd_folder).code == 0
    assert same("out.png", "again.png")
    assert read_recipe("again.png") == read_recipe("out.png")
    assert edit(*AGAIN, "--model", tiny_sd_folder, "--prompt-chunks", 3).code == 0
    assert read_recipe("again.png")["prompt_chunks"] == 3


def test_an_inversion_option_that_the_method_lacks_is_refused(edit, sfumato):
    words = ("photo.png", "--from", "red cat", "--method", "pix2pix-zero", "--steps", 4)
    for options, repeats in ((("--compat", "official"), False), ((), True)):
        assert sfumato("invert", *words, *options, "-o", "i.safetensors").code == 0
        assert edit("i.safetensors", "--method", "plug-and-play", "--to", "green cat", "-o", "out.png").code == 0
        run = edit(*AGAIN)
        assert (run.code == 0) is repeats, run.err
        if not repeats:
            assert "was inverted for pix2pix-zero and edited by plug-and-play" in run.refused()
    assert same("out.png", "again.png")


@pytest.mark.parametrize("methods", [("colour",), ("colour", "prompt-to-prompt")])
def test_an_edit_without_target_uses_the_new_source_prompt(edit, methods):
    """Also together with prompt-to-prompt, which alone needs a target."""
    tiny_image(30, 22, seed=3).save("other.png")
    named = (word for method in methods for word in ("--method", method))
    options = (*named, "--colour", "#3366ff", *FAST, "--guidance", 6)
    assert edit(*ONE[:3], *options, "-o", "out.png").code == 0
    assert edit("--recipe", "out.png", "other.png", "--from", "green dog", "-o", "again.png").code == 0
    assert edit("other.png", "--from", "green dog", *options, "-o", "direct.png").code == 0
    assert read_recipe("again.png") == read_recipe("direct.png")
    assert same("again.png", "direct.png")


def test_another_method_does_not_get_the_source_prompt_as_target(edit):
    assert edit(*ONE[:3], "--method", "colour", *FAST, "-o", "out.png").code == 0
    recoloured = ("--recipe", "out.png", "--method", "colour", "--colour", "blue", *FAST)
    assert edit(*recoloured, "--from", "green dog", "-o", "again.png").code == 0
    assert read_recipe("again.png")["prompt"] == "green dog"
    assert "target prompt (--to) is empty" in edit("--recipe", "out.png", "--method", "ddim", "-o", "d.png").refused()
