"""--mask and --mask-transparent on the command line."""

import numpy as np
import pytest
from PIL import Image

from sfumato.images import read_recipe

LEFT = np.tile(np.arange(30) < 12, (22, 1)).astype(np.uint8)


@pytest.fixture
def edit(sfumato, tiny_sd_folder):
    """An edit of photo.png under a mask."""

    def run(*words, out="out.png"):
        prompts = ("--from", "red apple", "--to", "green apple", "--guidance", 9)
        model = ("--model", tiny_sd_folder, "--steps", 3, "--skip", 0)
        return sfumato("edit", "photo.png", *prompts, *model, "-o", out, *words)

    return run


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).copy()


def test_masks_of_one_region_give_the_same_edit(edit, folder):
    Image.fromarray(LEFT * 255).save("white.png")
    Image.fromarray(LEFT).save("ones.png")
    Image.fromarray(LEFT.astype(np.uint16)).save("sixteen.png")
    holed = Image.open("photo.png").convert("RGBA")
    holed.putalpha(Image.fromarray((1 - LEFT) * 255))
    holed.save("holed.png")
    found = {}
    for name, words in (("white", ()), ("ones", ()), ("sixteen", ()), ("holed", ("--mask-transparent",))):
        run = edit("--mask", f"{name}.png", *words, "--json", out=f"out-{name}.png")
        assert run.code == 0, run.err
        assert run.json["parameters"]["mask"] == f"{name}.png"
        assert len(run.json["notes"]) == len(run.err.splitlines()) == (name in ("ones", "sixteen"))
        assert read_recipe(f"out-{name}.png")["mask"]["name"] == f"{name}.png"
        found[name] = pixels(f"out-{name}.png")
    source = pixels("photo.png")
    for each in found.values():
        np.testing.assert_array_equal(each, found["white"])
        np.testing.assert_array_equal(each[LEFT == 0], source[LEFT == 0])
        assert (each[LEFT == 1] != source[LEFT == 1]).any()


def test_invalid_mask_is_rejected_before_loading_the_model(sfumato, folder):
    Image.open("photo.png").save("copy.png")
    holed = Image.open("photo.png").convert("RGBA")
    holed.putalpha(Image.fromarray((1 - LEFT) * 255))
    holed.save("holed.png")
    words = ("edit", "photo.png", "--from", "a", "--to", "b", "-o", "out.png", "--model", "no-such-model")
    assert "image in colour, not a mask" in sfumato(*words, "--mask", "copy.png").refused()
    assert "--mask-transparent" in sfumato(*words, "--mask", "holed.png").refused()
    assert "no transparent parts" in sfumato(*words, "--mask", "copy.png", "--mask-transparent").refused()
    assert "needs --mask" in sfumato(*words, "--mask-transparent").refused()
