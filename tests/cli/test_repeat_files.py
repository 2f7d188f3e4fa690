"""`sfumato edit --recipe`: the files of options are found by name and content; untrusted recipes open no others."""

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
from tests.cli.repeating import AGAIN, ONE, same, written
from tests.models.lora_made import write_lora
from tests.style.small import save_parasol
from tests.tiny import WIDTH, tiny_image

BANKS = ("photo.png", "--from", "red cat", "-o", "out.png", "--method", "pix2pix-zero", "--steps", 3)


@pytest.fixture
def parasol(tiny_sd_folder, folder):
    """Arguments of an edit with PARASOL, whose files are in the working folder."""
    save_parasol(folder / "made", load(str(tiny_sd_folder), "cpu").network)
    shutil.copy("made/parasol.safetensors", "parasol.safetensors")
    shutil.copytree("made/encoders", ".", dirs_exist_ok=True)
    encoders = ("--content-encoder", "content", "--style-encoder", "style")
    first = ("photo.png", "--from", "red cat", "-o", "out.png", "--steps", 2, "--lam", 1)
    return (*first, "--method", "parasol", "--parasol", "parasol.safetensors", *encoders)


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


def test_recipe_opens_no_file_without_its_hash(edit, folder):
    """Neither a local file nor a repository of the hub is opened because a recipe names it."""
    edit(*ONE, "--method", "diffuseit", "--loss-scale", 0)
    (folder / "secret.png").write_bytes(Path("photo.png").read_bytes())
    part = {**read_recipe("out.png")["methods"][0], "target_image": "secret.png"}
    assert "needs secret.png" in edit(*written("out.png", methods=[part], target_image="secret.png")).refused()
    part |= {"target_image": "", "clip_folder": "stranger/clip"}
    assert "needs stranger/clip" in edit(*written("out.png", methods=[part], clip_folder="stranger/clip")).refused()


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
