"""Invalid input: exit code 2, a message of one line, nothing written, and detected before a model is loaded.

The model named here does not exist, so any other message shows that the error was detected before loading it.
"""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sfumato.models.diffusion_model import DiffusionModel
from tests.tiny import tiny_image

EDIT = "edit photo.png --from red --to green --model nosuch"
FILM = "interpolate photo.png mask.png --frames 3 --model nosuch"
MISTAKES = {
    "edit nosuch.png --to green -o out.png": "does not exist",
    "edit . --to green -o out.png": "is a folder",
    "edit text.png --to green -o out.png": "is text, not an image",
    "edit cut.png --to green -o out.png": "truncated",
    f"{EDIT} -o": "expected one argument",
    EDIT: "-o/--out",
    f"{EDIT} -o out": "extension must be one of",
    f"{EDIT} -o out.txt": "extension must be one of",
    f"{EDIT} -o nosuch/out.png": "does not exist: create it",
    f"{EDIT} -o folder.png": "is a folder",
    f"{EDIT} -o photo.png": "would be overwritten",
    f"{EDIT} -o ./link.png": "would be overwritten",
    f"{EDIT} -o mask.png --mask mask.png": "would be overwritten",
    f"{EDIT} -o out.png --mask wide.png": "mask wide.png is 31 x 22",
    f"{EDIT} -o out.png --mask black.png": "black everywhere",
    f"{EDIT} -o out.png --mask nosuch.png": "does not exist",
    f"{EDIT} -o out.png --steps 0": "between 1 and 1000",
    f"{EDIT} -o out.png --steps 1001": "between 1 and 1000",
    f"{EDIT} -o out.png --steps many": "'many' is not an integer",
    f"{EDIT} -o out.png --steps 2.5": "'2.5' is not an integer",
    f"{EDIT} -o out.png --steps 10 --skip 10": "between 0 and 9",
    f"{EDIT} -o out.png --skip -1": "skip must be between 0",
    f"{EDIT} -o out.png --eta 0": "above 0 and at most 1",
    f"{EDIT} -o out.png --eta 1.01": "above 0 and at most 1",
    f"{EDIT} -o out.png --guidance nan": "between 0 and 100",
    f"{EDIT} -o out.png --guidance -1": "between 0 and 100",
    f"{EDIT} -o out.png --source-guidance inf": "between 0 and 100",
    f"{EDIT} -o out.png --seed x": "--seed",
    f"{EDIT} -o out.png --seeds 0": "between 1 and 1000",
    f"{EDIT} -o out.png --seed 1 2 --seeds 2": "not both",
    f"{EDIT} -o out.png --seed 1 2 1": "--seed has 1 twice, which would give the same image twice",
    "generate red green -o out.png --seed 0 0 --model nosuch": "--seed has 0 twice",
    f"{EDIT} -o out.png --method edit-friendy": "did you mean 'edit-friendly'?",
    f"{EDIT} -o out.png --stepz 3": "did you mean '--steps'?",
    f"{EDIT} -o out.png --num-inference-steps 3": "'--num-inference-steps'; use --steps",
    f"{EDIT} -o out.png --guidance_scale=3": "use --guidance",
    f"{EDIT} -o out.png --strength 0.6": "skip = steps (1 - strength)",
    f"{EDIT} -o out.png --cfg-scale 7": "use --guidance",
    "generate red -o out.png --num-images 4": "use --seeds",
    "generate --prompt red -o out.png": "'--prompt'; use TEXT, the first argument",
    "generate red -o out.png --height 64": "use --size WxH",
    f"{EDIT} -o out.png --width 64": "use --resolution",
    f"{EDIT} -o out.png --init-image photo.png": "use IMAGE, the first argument",
    f"{EDIT} -o out.png --seed -1": "'-1' is not an integer (at least 0)",
    f"{EDIT} -o out.png --method ddim --eta 0.5": "--eta",
    "edit photo.png --to green --model emoji -o out.png --device tpu": "no device",
    "edit photo.png --to green --model emoji -o out.png --device cuda:99": "not on this machine",
    f"{EDIT} -o out.png --dtype int8": "no precision",
    f"{EDIT} -o out.png --max-pixels 659": "30 x 22 = 660 pixels, more than the limit of 659",
    f"{EDIT} -o out.png --max-pixels 0": "is not an integer (at least 1)",
    f"{EDIT} -o out.png --max-pixels 660": "no model nosuch",
    f"{EDIT} -o out.png": "no model nosuch",
    "edit nosuch.safetensors --to green -o out.png": "no file nosuch.safetensors",
    "edit weights.safetensors --to green -o out.png": "not an inversion",
    "invert photo.png --from red -o out.png --model nosuch": ".safetensors file",
    "invert photo.png --from red -o nosuch/x.safetensors --model nosuch": "does not exist: create it",
    "invert photo.png --from red -o folder.safetensors --model nosuch": "is a folder: give the name of a .safetensors",
    f"invert photo.png -o {'x' * 300}.safetensors --model nosuch": "File name too long",
    "invert photo.png -o x.safetensors --seed -1 --model nosuch": "'-1' is not an integer (at least 0)",
    "sweep photo.png --to red -o out --grid skip=1 --seed -1 --model nosuch": "'-1' is not an integer (at least 0)",
    "demo --seed -1": "'-1' is not an integer (at least 0)",
    "directions find -o x.safetensors --seed -1 --model nosuch": "'-1' is not an integer (at least 0)",
    f"{FILM} -o photo.png": "photo.png cannot be created or written to",
    f"{FILM} -o photo.png/film": "photo.png/film cannot be created or written to",
    f"{FILM} -o new/{'x' * 300}": "cannot be the name of a file or folder (File name too long)",
    f"{FILM} -o film --animation {'x' * 300}.gif": "cannot be the name of a file or folder (File name too long)",
    f"{FILM} -o film --animation frame-02.png": "other than sheet.png and those of the frames, not frame-02.png",
    f"{FILM} -o film --animation frame-03.png": "no model nosuch",
    f"{FILM} -o .": "no model nosuch",
    f"{FILM} -o . --animation folder.png": "folder.png is a folder",
    "invert nosuch.png --from red -o x.safetensors --model nosuch": "does not exist",
    "invert photo.png --from red -o x.safetensors --guidance 3 --model nosuch": "unknown argument '--guidance'",
    "invert photo.png --from red -o x.safetensors --max-pixels 9 --model nosuch": "--max-pixels",
    "recipe photo.png --max-pixels 659": "limit of 659",
    "metrics photo.png photo.png --max-pixels 659": "limit of 659",
    "generate red -o out.png --size 0 --model nosuch": "is not a size in pixels",
    "generate red -o out.png --size 8x --model nosuch": "is not a size in pixels",
    "generate red -o out.png --size 8200x64 --model nosuch": "such as 64 or 96x64, at most 8192",
    f"{EDIT} -o out.png --resolution 8193": "is not a number of pixels up to 8192, native or full",
    "generate red -o out.png --steps 0 --model nosuch": "between 1 and 1000",
    "generate red -o folder.png --model nosuch": "is a folder",
    "recipe photo.png": "no sfumato recipe",
    "recipe nosuch.png": "does not exist",
    "recipe": "IMAGE",
    "models path": "name the model",
    "models path nosuch": "no bundled model",
    "models paht emoji": "paht",
    "methods edit-frendly": "did you mean 'edit-friendly'?",
    "methods zzz": "no method 'zzz'",
    "data emojis": "did you mean 'emoji'?",
    "data emoji --size 4": "between 16 and 1024",
    "data emoji --styles nosuch": "no style 'nosuch'",
    "data emoji --styles openmoji": "share-alike",
    "train autoencodre recipe.toml --out run": "did you mean 'autoencoder'?",
    "train autoencoder nosuch.toml --out run": "cannot read the recipe",
    "train autoencoder text.png --out run": "not valid TOML",
    "train autoencoder nosuch.toml": "--out",
    "train autoencoder nosuch.toml --out photo.png": "is a file",
    "train autoencoder nosuch.toml --out run --device tpu": "no device 'tpu'",
    "train autoencoder nosuch.toml --out run --minutes -1": "at least 0",
    "demo --only haert": "did you mean 'heart'?",
    "demo --out out/demo.txt": "extension must be one of",
    "editt photo.png": "did you mean 'edit'?",
    "--edit": "unknown argument '--edit'",
}


@pytest.fixture
def mistakes(folder):
    """Input files of the invalid command lines."""
    (folder / "text.png").write_text("hello")
    (folder / "cut.png").write_bytes((folder / "photo.png").read_bytes()[:200])
    (folder / "folder.png").mkdir()
    (folder / "folder.safetensors").mkdir()
    (folder / "link.png").symlink_to("photo.png")
    Image.fromarray(np.zeros((22, 30), np.uint8)).save("black.png")
    Image.fromarray(np.full((22, 30), 255, np.uint8)).save("mask.png")
    tiny_image(31, 22).save("wide.png")


@pytest.mark.parametrize("typed", MISTAKES)
@pytest.mark.usefixtures("mistakes")
def test_invalid_input_gives_one_line_and_writes_nothing(sfumato, typed, tiny_sd_folder):
    if "weights.safetensors" in typed:
        shutil.copy(tiny_sd_folder / "unet" / "diffusion_pytorch_model.safetensors", "weights.safetensors")
    before = sorted(os.listdir())
    assert MISTAKES[typed] in sfumato(*typed.split()).refused()
    assert sorted(os.listdir()) == before


@pytest.mark.parametrize(
    ("typed", "twice"),
    [
        ("sweep photo.png --to cat --to dog -o sweep", "--to"),
        ("sweep photo.png --to cat --method ddim --method plug-and-play -o sweep", "--method"),
        ("invert photo.png --method ddim --method=sdedit -o out.safetensors", "--method"),
        ("invert photo.png --from A --from B -o out.safetensors", "--from"),
        ("edit photo.png --to cat -o out.png --model emoji --model nosuch", "--model"),
        ("edit photo.png --to cat -o out.png --mask photo.png --mask=photo.png", "--mask"),
        ("edit photo.png --to cat -o out.png -oother.png", "--out"),
        ("edit photo.png --to cat -o out.png --steps 4 --steps 4", "--steps"),
        ("edit photo.png --to cat -o out.png --auto --auto 0.5", "--auto"),
        ("interpolate photo.png photo.png -o film --from a b --from c d", "--from"),
    ],
)
def test_a_second_value_for_a_command_that_takes_one_is_refused(sfumato, typed, twice):
    assert f"{twice} was given twice: this command takes one" in sfumato(*typed.split()).refused()


@pytest.mark.parametrize(
    "typed",
    [
        "edit photo.png --to cat -o out.png --method colour --method colour",
        "generate cat -o out.png --method objects --method=objects",
    ],
)
def test_a_method_is_named_once(sfumato, typed):
    assert "is named twice: name it once" in sfumato(*typed.split()).refused()


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("edit photo.png --to cat -o out.png --method ddim --gamma 0.3", "an option of the method pullback: name"),
        ("edit photo.png --to cat -o out.png --pullback.gamma=0.3", "an option of the method pullback: name"),
        ("edit photo.png --to cat -o out.png --ddim.gamma 0.3", "unknown argument '--ddim.gamma' (see"),
        ("edit photo.png --to cat -o out.png --method ddim --amount 1", "one of the methods asyrp, colour: name"),
        ("edit photo.png --to cat -o out.png --method ddim --method colour --gamma 1", "the method pullback: name"),
        ("generate cat -o out.png --thresholds 1", "an option of the method attend-and-excite: name"),
        ("sweep photo.png --to cat -o sweep --gamma 1", "an option of the method pullback: name"),
        ("invert photo.png -o out.safetensors --gamma 1", "unknown argument '--gamma' (see"),
    ],
)
def test_options_of_other_methods_are_named(sfumato, typed, message):
    assert message in sfumato(*typed.split()).refused()


def test_a_switch_is_given_on_or_off(sfumato):
    words = ("edit", "photo.png", "-o", "out.png", "--method", "pullback", "--normalise")
    assert "--normalise and its opposite were both given" in sfumato(*words, "--no-normalise").refused()
    assert "no model nosuch" in sfumato(*words, "--normalise", "--model", "nosuch").refused()


@pytest.mark.usefixtures("mistakes")
def test_unwritable_folder_is_rejected_before_loading_the_model(sfumato, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    run = sfumato("invert", "photo.png", "-o", "x.safetensors", "--model", "nosuch")
    assert "may not be written to" in run.refused()
    assert "film cannot be created or written to" in sfumato(*FILM.split(), "-o", "film").refused()


WORDS = ("--method", "pix2pix-zero", "--source-word", "cat")
BLEND = ("--to", "green", "--method", "prompt-to-prompt", "--blend", "red")
BANKS = ("--method", "pix2pix-zero", "--source-bank", "two.txt")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--to", "", "--from", "red"), "target prompt (--to) is empty"),
        (("--to", "green", "--skip", 500), "skip must be between 0 and"),
        (("--to", "green " * 100), "token"),
        (("--to", "green", "--negative-prompt", "red " * 100), "token"),
        (("--to", "green", "--mask-words", "star"), '"star" of mask_words is in neither prompt'),
        (("--to", "green", "--mask-words", "green,,red"), "remove the empty part"),
        (("--to", "green", "--auto", "--mask-words", "star"), '"star" of mask_words is in neither prompt'),
        (("--to", "green", "--method", "prompt-to-prompt", "--reweight", "gree=2"), 'its words are "green"'),
        (("--to", "green", "--method", "prompt-to-prompt", "--self-tokens", 1), "allow at least 12"),
        ((*BLEND, "--blend-start", 1), "blend_start = 1 leaves none of the 4 steps for the local blend"),
        ((*BLEND, "--reweight", "green=2,Green=3"), 'reweight names "Green" twice'),
        (
            ("--to", "green", "--method", "shift", "--right", 8),
            "right must be between -7 and 7 and down between -5 and 5",
        ),
        (
            ("--to", "green", "--method", "colour", "--first", 2, "--last", 9),
            "that add noise are 801, 601, 401, 201, 1.",
        ),
        (("--method", "pullback", "--rank", 17), "rank must be between 1 and 16"),
        (("--method", "pullback", "--auto"), "--auto needs a target prompt: give --to"),
        (("--to", "<|endoftext|>", "--method", "pix2pix-zero"), "has no words"),
        ((*WORDS, "--target-word", "<|endoftext|>"), "sentence without words for this model"),
        ((*WORDS, "--target-word", "dog " * 80), 'built-in bank of "dog dog'),
        ((*BANKS, "--target-bank", "one.txt"), "one.txt needs at least 2 sentences"),
        (
            (*BANKS, "--target-bank", "long.txt"),
            "long.txt has a sentence of 100 tokens but this model reads at most 75",
        ),
    ],
)
def test_model_dependent_errors_precede_network_evaluations(sfumato, tiny_sd_folder, monkeypatch, words, complaint):
    monkeypatch.setattr(DiffusionModel, "_forward", lambda *_: pytest.fail("the network was evaluated"))
    Path("long.txt").write_text("a dog\n" + "dog " * 100)
    Path("one.txt").write_text("a dog\n")
    Path("two.txt").write_text("a cat\nred cat\n")
    run = sfumato(
        "edit",
        "photo.png",
        *((), ("--from", "red"))["--from" not in words],
        *words,
        "-o",
        "out.png",
        "--model",
        tiny_sd_folder,
        *((), ("--steps", 5))["--skip" not in words],
    )
    assert complaint in run.refused()


def test_model_without_text_input_rejects_prompts(sfumato, tiny_ddpm_folder):
    run = sfumato("edit", "photo.png", "--to", "green", "-o", "out.png", "--model", tiny_ddpm_folder)
    assert "no text input" in run.refused()
    assert "no text input" in sfumato("demo", "--model", tiny_ddpm_folder, "--out", "demo.png").refused()


def test_options_of_a_saved_inversion_are_fixed(sfumato, tiny_sd_folder):
    model = ("--model", tiny_sd_folder)
    sfumato("invert", "photo.png", "--from", "red", "-o", "x.safetensors", "--steps", 3, *model)
    edit = ("edit", "x.safetensors", "--to", "green", "-o", "out.png", *model)
    for words in (
        ("--from", "red"),
        ("--from", ""),
        ("--steps", 4),
        ("--seed", 0),
        ("--seed", 1),
        ("--seeds", 2),
        ("--exact",),
    ):
        assert "stored in its file and cannot be changed" in sfumato(*edit, *words).refused()
    assert "ddim edits inversions by ddim, not by edit-friendly" in sfumato(*edit, "--method", "ddim").refused()
    assert "--max-pixels is for reading images" in sfumato(*edit, "--max-pixels", 10).refused()


def test_an_inversion_of_another_model_is_refused(sfumato, tiny_sd_folder, tiny_sd2_folder):
    sfumato("invert", "photo.png", "--from", "red", "-o", "x.safetensors", "--steps", 3, "--model", tiny_sd_folder)
    run = sfumato("edit", "x.safetensors", "--to", "green", "-o", "out.png", "--model", tiny_sd2_folder)
    assert "another model" in run.refused()


def test_debug_prints_the_traceback(sfumato):
    run = sfumato("edit", "nosuch.png", "--to", "green", "-o", "out.png", "--debug")
    assert run.code == 2
    assert "Traceback" in run.err
    assert run.err.splitlines()[-1].startswith("sfumato: nosuch.png")
