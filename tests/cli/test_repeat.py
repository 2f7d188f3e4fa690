"""`sfumato edit --recipe`: repeats an edit or applies it to another image; untrusted recipes open no files."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image
from safetensors.torch import save_file

from sfumato.api import load
from sfumato.images.recipe import read_recipe
from sfumato.images.write import write_image
from tests.models.lora_made import write_lora
from tests.style.small import save_parasol
from tests.tiny import WIDTH, tiny_image

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


BANKS = ("photo.png", "--from", "red cat", "-o", "out.png", "--method", "pix2pix-zero", "--steps", 3)
AGAIN = ("--recipe", "out.png", "-o", "again.png")


@pytest.fixture
def parasol(tiny_sd_folder, folder):
    """Arguments of an edit with PARASOL, whose files are in the working folder."""
    save_parasol(folder / "made", load(str(tiny_sd_folder), "cpu").network)
    shutil.copy("made/parasol.safetensors", "parasol.safetensors")
    shutil.copytree("made/encoders", ".", dirs_exist_ok=True)
    encoders = ("--content-encoder", "content", "--style-encoder", "style")
    first = ("photo.png", "--from", "red cat", "-o", "out.png", "--steps", 2, "--lam", 1)
    return (*first, "--method", "parasol", "--parasol", "parasol.safetensors", *encoders)


def test_two_options_with_one_file_open_it_only_with_its_hash(edit, folder, parasol):
    tiny_image(32, 32, seed=7).save("x.png")
    assert edit(*parasol, "--style", "x.png", "--content", "x.png").code == 0
    assert edit(*AGAIN).code == 0
    assert same("out.png", "again.png")
    (folder / "secret").mkdir()
    tiny_image(32, 32, seed=9).save("secret/private.png")
    Path("again.png").unlink()
    first = read_recipe("out.png")["methods"][0]
    for named in (str(folder / "secret/private.png"), "secret/private.png", "photo.png"):
        both = {"style": named, "content": named}
        assert f"needs {named}" in edit(*written("out.png", methods=[first | both], **both)).refused()
    assert "needs x.png" in edit(*written("out.png", files=read_recipe("out.png")["files"][:1])).refused()
    both = {"style": 5, "content": 5}
    Path("5").write_bytes(Path("x.png").read_bytes())
    assert "of another version" in edit(*written("out.png", methods=[first | both], **both)).refused()
    tiny_image(32, 32, seed=8).save("x.png")
    assert "needs x.png" in edit(*AGAIN).refused()


def test_files_with_one_name_are_found_by_option(edit, folder):
    for name in ("cat", "dog"):
        (folder / name).mkdir()
        Path(name, "bank.txt").write_text(f"a {name}\nthe {name}\n")
    assert edit(*BANKS, "--source-bank", "cat/bank.txt", "--target-bank", "dog/bank.txt").code == 0
    shutil.copy("cat/bank.txt", "bank.txt")
    said = edit(*AGAIN).refused()
    assert "needs bank.txt, which is neither" in said
    assert "give --target-bank" in said
    assert edit(*AGAIN, "--target-bank", "dog/bank.txt").code == 0
    assert same("out.png", "again.png")
    Path("again.png").unlink()
    old = [{"name": each["name"], "sha256": each["sha256"]} for each in read_recipe("out.png")["files"]]
    assert "different files with the name bank.txt: give --" in edit(*written("out.png", files=old)).refused()
    assert edit(*written("out.png", files=old[:1])).code == 0, "an older recipe with one file in both options"
    assert read_recipe("again.png")["files"] == [
        {"option": option, **old[0]} for option in ("source_bank", "target_bank")
    ]


def test_one_image_gives_appearance_and_layout(edit):
    tiny_image(30, 22, seed=2).save("ref.png")
    prompts = ("--appearance-prompt", "a cat", "--layout-prompt", "a cat")
    images = ("--appearance-from", "ref.png", "--layout-from", "ref.png")
    assert edit(*ONE[:3], "-o", "out.png", "--method", "self-guidance", *images, *prompts, "--steps", 2).code == 0
    run = edit(*AGAIN)
    assert run.code == 0, run.err
    assert same("out.png", "again.png")


def test_a_name_that_ends_in_another_is_repeated_from_another_folder(edit, folder, parasol, monkeypatch):
    for name in ("b.png", "ab.png"):
        tiny_image(32, 32, seed=len(name)).save(name)
    assert edit(*parasol, "--style", f"ab.png=1,{folder}/b.png=2").code == 0
    assert read_recipe("out.png")["style"] == "ab.png=1,b.png=2"
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    run = edit("--recipe", "../out.png", "-o", "again.png")
    assert run.code == 0, run.err
    assert same("../out.png", "again.png")


def test_prompt_weights_and_chunks_are_repeated_with_a_typed_model(edit, tiny_sd_folder):
    weighted = (*ONE[:3], "--to", "(green:1.8) cat", *ONE[5:], "--guidance", 6, "--prompt-weights")
    assert edit(*weighted, "--prompt-chunks", 2).code == 0
    assert edit(*AGAIN, "--model", tiny_sd_folder).code == 0
    assert same("out.png", "again.png")
    assert read_recipe("again.png") == read_recipe("out.png")
    assert edit(*AGAIN, "--model", tiny_sd_folder, "--prompt-chunks", 3).code == 0
    assert read_recipe("again.png")["prompt_chunks"] == 3


def test_loras_and_textual_inversions_are_repeated_with_a_typed_model(edit, folder, tiny_sd_folder):
    pipe = DiffusionPipeline.from_pretrained(tiny_sd_folder, local_files_only=True)
    write_lora(pipe, folder / "toon.safetensors", "kohya")
    save_file({"<toy>": torch.randn(2, WIDTH)}, "toy.safetensors")
    assert edit(*ONE, "--lora", "toon.safetensors:0.5", "--textual-inversion", "toy.safetensors").code == 0
    run = edit(*AGAIN, "--model", tiny_sd_folder)
    assert (run.code, run.err) == (0, "")
    assert same("out.png", "again.png")
    Path("again.png").unlink()
    Path("toon.safetensors").rename("moved.safetensors")
    assert "needs toon.safetensors" in edit(*AGAIN, "--model", tiny_sd_folder).refused()
    assert edit(*AGAIN, "--model", tiny_sd_folder, "--lora", "moved.safetensors:0.5").code == 0
    assert same("out.png", "again.png")


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


def test_an_edit_without_target_uses_the_new_source_prompt(edit):
    tiny_image(30, 22, seed=3).save("other.png")
    colour = ("--method", "colour", "--colour", "#3366ff", *FAST, "--guidance", 6)
    assert edit(*ONE[:3], *colour, "-o", "out.png").code == 0
    assert edit("--recipe", "out.png", "other.png", "--from", "green dog", "-o", "again.png").code == 0
    assert edit("other.png", "--from", "green dog", *colour, "-o", "direct.png").code == 0
    assert read_recipe("again.png") == read_recipe("direct.png")
    assert same("again.png", "direct.png")


def test_methods_that_need_no_target_use_the_new_source_prompt_together_with_others(edit):
    """As alone; prompt-to-prompt needs a target, but the combination does not."""
    tiny_image(30, 22, seed=3).save("other.png")
    methods = ("--method", "colour", "--method", "prompt-to-prompt", "--colour", "#3366ff", *FAST, "--guidance", 6)
    assert edit(*ONE[:3], *methods, "-o", "out.png").code == 0
    assert edit("--recipe", "out.png", "other.png", "--from", "green dog", "-o", "again.png").code == 0
    assert edit("other.png", "--from", "green dog", *methods, "-o", "direct.png").code == 0
    assert read_recipe("again.png") == read_recipe("direct.png")
    assert same("again.png", "direct.png")


def test_another_method_does_not_get_the_source_prompt_as_target(edit):
    assert edit(*ONE[:3], "--method", "colour", *FAST, "-o", "out.png").code == 0
    recoloured = ("--recipe", "out.png", "--method", "colour", "--colour", "blue", *FAST)
    assert edit(*recoloured, "--from", "green dog", "-o", "again.png").code == 0
    assert read_recipe("again.png")["prompt"] == "green dog"
    assert "target prompt is empty" in edit("--recipe", "out.png", "--method", "ddim", "-o", "d.png").refused()


def test_a_damaged_file_of_the_same_name_does_not_end_the_search(edit, sfumato, folder, monkeypatch):
    """The files next to the edited image are damaged, and those in the working folder are the right ones."""
    words = ("--source-word", "cat", "--target-word", "dog")
    assert sfumato("directions", "text", *words, "-o", "d.safetensors").code == 0
    Image.fromarray(np.arange(30 * 22, dtype=np.uint16).reshape(22, 30).astype(np.uint8)).save("mask.png")
    flags = ("--method", "pix2pix-zero", "--direction-file", "d.safetensors", "--mask", "mask.png", "--steps", 3)
    assert edit(*ONE[:3], "-o", "out.png", *flags).code == 0
    (folder / "there").mkdir()
    Path("out.png").rename("there/out.png")
    for name in ("photo.png", "mask.png"):
        Path("there", name).write_bytes(b"damaged")
    os.mkfifo("there/d.safetensors")
    again = ("--recipe", "there/out.png", "-o", "again.png")
    run = edit(*again)
    assert run.code == 0, run.err
    assert same("there/out.png", "again.png")
    Path("again.png").unlink()
    Path("d.safetensors").unlink()
    assert "with the same content (there/d.safetensors is not a regular file: give" in edit(*again).refused()
    Path("photo.png").write_bytes(b"damaged too")
    said = edit(*again, "--direction-file", "x", "--mask", "y").refused()
    assert "with the same pixels (there/photo.png" in said
    assert "; photo.png" in said
    assert said.endswith("): give the image to edit too.\n")
