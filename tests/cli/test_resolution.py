"""`--resolution` and `--tiles`: photographs are edited near the native size of the model, which is reported."""

import numpy as np
import pytest
from PIL import Image

from sfumato.images import read_recipe
from tests.tiny import tiny_image

PROMPTS = ("--from", "red apple", "--to", "green apple")
FAST = ("--steps", 4, "--skip", 1)


@pytest.fixture
def model(tiny_sd_folder, folder):
    tiny_image(120, 90).save(folder / "large.png")
    return ("--model", tiny_sd_folder)


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image).copy()


def test_photo_is_edited_near_the_native_size_by_default(sfumato, model):
    run = sfumato("edit", "large.png", *PROMPTS, *model, *FAST, "-o", "out.png", "--json")
    assert run.code == 0, run.err
    assert pixels("out.png").shape == (90, 120, 3)
    (line,) = run.err.splitlines()
    assert "large.png is 120 x 90 pixels and is edited at 40 x 30, near the 32 x 32" in line
    assert line.endswith(run.json["notes"][0])
    assert sfumato("edit", "large.png", *PROMPTS, *model, *FAST, "-o", "n.png", "--resolution", "native").code == 0
    assert (pixels("n.png") == pixels("out.png")).all()
    full = sfumato("edit", "large.png", *PROMPTS, *model, *FAST, "-o", "full.png", "--resolution", "full")
    assert "far from the 32 x 32" in full.err
    assert (pixels("full.png") != pixels("out.png")).any()
    other = sfumato("edit", "large.png", *PROMPTS, *model, *FAST, "-o", "other.png", "--resolution", 48)
    assert "is edited at 56 x 42" in other.err


def test_saved_inversion_keeps_its_resolution(sfumato, model):
    words = ("edit", "x.safetensors", "--to", "green apple", *model, "-o", "out.png")
    assert sfumato("invert", "large.png", "--from", "red apple", *model, "--steps", 4, "-o", "x.safetensors").code == 0
    run = sfumato(*words, "--skip", 1)
    assert run.code == 0, run.err
    assert "is edited at 40 x 30" in run.err
    assert pixels("out.png").shape == (90, 120, 3)
    for option in (("--resolution", "full"), ("--resolution", "full", "--tiles")):
        assert "--resolution and --tiles are fixed" in sfumato(*words, *option, "--skip", 1).refused()


def test_recipe_repeats_resolution_and_tiles(sfumato, model):
    assert sfumato("edit", "large.png", *PROMPTS, *model, *FAST, "-o", "a.png", "--resolution", 48).code == 0
    assert sfumato("edit", "--recipe", "a.png", *model, "-o", "b.png").code == 0
    assert (pixels("a.png") == pixels("b.png")).all()
    tiled = ("--resolution", "full", "--tiles")
    assert sfumato("edit", "large.png", *PROMPTS, *model, *FAST, "-o", "c.png", *tiled).code == 0
    assert sfumato("edit", "--recipe", "c.png", *model, "-o", "d.png").code == 0
    assert (pixels("c.png") == pixels("d.png")).all()
    assert (pixels("a.png") != pixels("c.png")).any()


@pytest.mark.parametrize("command", ["edit", "invert", "sweep"])
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--tiles",), "give --resolution full"),
        (("--tiles", "--resolution", "native"), "give --resolution full"),
        (("--resolution", "big"), "'big' is not a number of pixels up to 8192, native or full"),
        (("--resolution", "0"), "'0' is not a number of pixels up to 8192, native or full"),
    ],
)
def test_invalid_resolution_and_tiles_are_rejected(sfumato, command, words, sentence):
    out = {"edit": "out.png", "invert": "x.safetensors", "sweep": "swept"}[command]
    more = {"edit": PROMPTS, "invert": PROMPTS[:2], "sweep": (*PROMPTS, "--grid", "skip=1,2")}[command]
    assert sentence in sfumato(command, "photo.png", *more, "-o", out, *words).refused()


def test_resolution_out_of_range_is_rejected(sfumato, model):
    run = sfumato("edit", "large.png", *PROMPTS, *model, *FAST, "-o", "out.png", "--resolution", 4)
    assert "an integer from 8 to 8192" in run.refused()


def test_low_similarity_to_the_source_prompt_is_reported(sfumato, folder):
    tiny_image(60, 60, seed=4).save(folder / "abstract.png")
    words = ("--from", "castle, noto", "--to", "house, noto", "--steps", 2, "--skip", 1, "-o", "out.png", "--json")
    run = sfumato("edit", "abstract.png", *words)
    assert run.code == 0, run.err
    found = run.json["metrics"]["source_similarity_to_source"][0]
    assert found < 0.6
    assert f"the CLIP similarity of abstract.png to its own prompt is {found:.2f}" in run.err
    assert any("do not rely on its similarities for this image" in note for note in run.json["notes"])


def test_recipe_of_the_default_resolution_fits_other_images(sfumato, model):
    """A large image is then edited near the native size, and a small one at its own, as without the recipe."""
    for first, second, size in (("photo.png", "large.png", [40, 30]), ("large.png", "photo.png", [30, 22])):
        assert sfumato("edit", first, *PROMPTS, *model, *FAST, "-o", "a.png").code == 0
        assert sfumato("edit", "--recipe", "a.png", *model, "-o", "same.png").code == 0
        assert (pixels("a.png") == pixels("same.png")).all()
        run = sfumato("edit", "--recipe", "a.png", second, *model, "-o", "b.png")
        assert run.code == 0, run.err
        assert read_recipe("b.png")["edited_size"] == size
    assert sfumato("invert", "photo.png", "--from", "red apple", *model, "--steps", 4, "-o", "x.safetensors").code == 0
    assert sfumato("edit", "x.safetensors", "--to", "green apple", *model, "--skip", 1, "-o", "a.png").code == 0
    recipes = read_recipe("a.png"), read_recipe("same.png")
    assert [(each["resolution"], each["resolution_default"]) for each in recipes] == [("full", True), ("native", True)]
