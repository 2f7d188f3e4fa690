"""`sfumato edit` with several images or several target prompts gives the results of the Python API."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sfumato.api import Model, editing, load
from sfumato.errors import BadInput
from tests.tiny import tiny_image

FAST = ("--steps", 4, "--skip", 1)


@pytest.fixture
def edit(sfumato, folder, tiny_sd_folder):
    """Run edits in a folder with images of two sizes, two of which have the same name."""
    tiny_image(30, 22, seed=1).save(folder / "b.png")
    tiny_image(22, 30, seed=2).save(folder / "c.jpg")
    (folder / "other").mkdir()
    tiny_image(30, 22, seed=3).save(folder / "other" / "b.png")
    return lambda *words: sfumato("edit", *words, "--model", tiny_sd_folder, *FAST)


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image).copy()


def test_command_matches_the_python_api(edit, tiny_sd_folder):
    prompts = ("--from", "red cat", "--from", "a dog", "--from", "apple", "--to", "green cat")
    run = edit("photo.png", "b.png", "c.jpg", *prompts, "--out-dir", "out/edits", "--json")
    assert run.code == 0, run.err
    assert run.files == {"out/edits/photo.png", "out/edits/b.png", "out/edits/c.png"}
    assert run.json["parameters"]["source_prompts"] == ["red cat", "a dog", "apple"]
    model = load(str(tiny_sd_folder), "cpu")
    inverted = model.invert(["photo.png", "b.png", "c.jpg"], ["red cat", "a dog", "apple"], steps=4)
    wanted = inverted.edit("green cat", skip=1)
    for name, expected in zip(("photo", "b", "c"), wanted.pixels, strict=True):
        assert np.array_equal(pixels(f"out/edits/{name}.png"), expected)


def test_several_targets_give_several_outputs(edit):
    run = edit("photo.png", "--from", "cat", "--to", "green cat", "--to", "a dog", "-o", "out.png")
    assert run.files == {"out-0.png", "out-1.png"}, run.err
    assert not np.array_equal(pixels("out-0.png"), pixels("out-1.png"))
    run = edit("photo.png", "--from", "cat", "--to", "green cat", "--to", "a dog", "--out-dir", ".")
    assert run.files == {"photo-0.png", "photo-1.png"}, run.err
    assert np.array_equal(pixels("out-1.png"), pixels("photo-1.png"))


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("photo.png", "--to", "dog"), "give the output: -o/--out OUT, or --out-dir FOLDER"),
        (("photo.png", "--to", "dog", "-o", "o.png", "--out-dir", "out"), "give the output"),
        (("--to", "dog", "-o", "o.png"), "give the image to edit"),
        (("b.png", "other/b.png", "--to", "dog", "--out-dir", "out"), "would both become out/b.png"),
        (("b.png", "photo.png", "--to", "dog", "--out-dir", "."), "b.png is an input of this command"),
        (("b.png", "photo.png", "--to", "dog", "--out-dir", "c.jpg"), "cannot be created or written to"),
        (("b.png", "photo.png", "--to", "1", "--to", "2", "--to", "3", "-o", "o.png"), "give --to once for all 2"),
        (("b.png", "photo.png", "--to", "1", "--seeds", "3", "-o", "o.png"), "give --seed once for all 2"),
        (("b.png", "c.jpg", "--to", "1", "--mask", "photo.png", "-o", "o.png"), "edit each size separately"),
        (("b.png", "c.jpg", "--to", "1", "--auto", "-o", "o.png"), "--auto works on a single edit"),
        (("b.png", "nosuch.png", "--to", "1", "-o", "o.png"), "nosuch.png does not exist"),
    ],
)
def test_invalid_combinations_are_rejected(edit, words, complaint):
    assert complaint in edit(*words).refused()
    assert not Path("out").exists()


def test_save_writes_all_results_or_none(folder, tiny_sd_folder):
    inverted = load(str(tiny_sd_folder), "cpu").invert("photo.png", "red cat", steps=4)
    edits = inverted.edit(["a dog", "green cat"], skip=1)
    edits.save("edit.png")
    assert [np.array_equal(pixels(f"edit-{n}.png"), each) for n, each in enumerate(edits.pixels)] == [True, True]
    edits.save("second.png", 1)
    assert np.array_equal(pixels("second.png"), edits.pixels[1])
    (folder / "more-1.png").mkdir()
    with pytest.raises(BadInput, match=r"more-1\.png is a folder"):
        edits.save("more.png")
    assert not Path("more-0.png").exists()


def test_several_images_may_have_equal_seeds(edit, sfumato):
    words = ("--from", "red cat", "--to", "green cat", "--out-dir", "out", "--seed", 1, 2, 1)
    run = edit("photo.png", "b.png", "c.jpg", *words, "--json")
    assert run.code == 0, run.err
    assert run.json["parameters"]["seeds"] == [1, 2, 1]
    two = ("--to", "green cat", "--to", "a dog", "--seed", 3, 3)
    assert edit("photo.png", "--from", "red cat", *two, "-o", "two.png", "--json").json["parameters"]["seeds"] == [3, 3]


def test_every_output_contains_its_recipe(edit, sfumato):
    edit("photo.png", "b.png", "--from", "red cat", "--from", "a dog", "--to", "green cat", "--out-dir", "out")
    found = [json.loads(sfumato("recipe", f"out/{name}.png").out) for name in ("photo", "b")]
    assert [each["source_prompt"] for each in found] == ["red cat", "a dog"]
    assert [each["image"]["name"] for each in found] == ["photo.png", "b.png"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, MemoryError])
def test_finished_images_are_kept_when_a_run_stops(edit, monkeypatch, stop):
    """The three images have two sizes, so they are edited in two batches."""
    words = ("photo.png", "c.jpg", "b.png", "--from", "red", "--to", "green", "--out-dir")
    assert edit(*words, "whole").code == 0
    batches, finished = [], editing._finished

    def fail_second(*arguments):
        if batches:
            raise stop
        batches.append(arguments)
        return finished(*arguments)

    monkeypatch.setattr(editing, "_finished", fail_second)
    run = edit(*words, "out")
    assert (run.code, run.files) == (130 if stop is KeyboardInterrupt else 1, {"out/photo.png", "out/b.png"})
    assert "sfumato: 2 of 3 images are in out." in run.err
    for name in ("photo.png", "b.png"):
        assert Path("out", name).read_bytes() == Path("whole", name).read_bytes()


def test_generated_images_are_kept_when_the_report_fails(sfumato, tiny_sd_folder, monkeypatch):
    def fail(model, texts):
        raise RuntimeError("no report")

    monkeypatch.setattr(Model, "too_long", fail)
    words = ("generate", "red cat", "--seeds", 2, "-o", "out.png", "--steps", 2, "--model", tiny_sd_folder)
    run = sfumato(*words)
    assert (run.code, run.files) == (1, {"out-0.png", "out-1.png"})
    assert "2 of 2 images are in ." in run.err
