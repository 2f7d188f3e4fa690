"""Self-Guidance with reference images and its Python helpers: joined entries, cost, recipes, refusals."""

import numpy as np
import pytest

from sfumato.api import load
from sfumato.changes import (
    Change,
    appearance_from,
    box,
    cover,
    layout_from,
    move,
    object_from,
    place,
    reshape,
    resize,
    restyle,
    swap,
)
from sfumato.errors import BadInput
from sfumato.options.other_images import check_proportions
from tests.tiny import tiny_image

STEPS = {"steps": 4}
PROMPT = "red cat and dog"


@pytest.fixture(scope="module")
def sd(tiny_sd_folder):
    return load(str(tiny_sd_folder), "cpu")


@pytest.fixture(scope="module")
def inverted(sd):
    return sd.invert(tiny_image(32, 32), PROMPT, method="self-guidance", **STEPS)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Paths of two images."""
    folder = tmp_path_factory.mktemp("references")
    paths = [folder / "one.png", folder / "two.png"]
    for seed, path in enumerate(paths, start=7):
        tiny_image(32, 32, seed=seed).save(path)
    return paths


def test_helpers_return_method_entries(files):
    assert move("fox", right=0.2) == ("self-guidance", {"move": "fox: 0.2, 0.0"})
    assert resize("red fox", 1.5) == ("self-guidance", {"resize": "red fox: 1.5"})
    assert reshape("fox", height=0.5, angle=30.0) == ("self-guidance", {"reshape": "fox: 1.0, 0.5, 30.0"})
    assert swap("fox", "ball") == ("self-guidance", {"swap": "fox, ball"})
    assert place("fox", 0.3, 0.5) == ("self-guidance", {"place": "fox: 0.3, 0.5"})
    assert box("fox", 0.1, 0.2, 0.5, 0.9) == ("self-guidance", {"box": "fox: 0.1, 0.2, 0.5, 0.9"})
    assert cover("fox", 0.25) == ("self-guidance", {"cover": "fox: 0.25"})
    assert restyle("fox", files[0], "a cat", there="cat").options == {"restyle": f"fox=cat: {files[0]}: a cat"}
    assert object_from("fox", "a.png", "a fox: red").options == {"objects_from": "fox: a.png: a fox: red"}
    assert appearance_from("a.png", "a fox").options == {"appearance_from": "a.png", "appearance_prompt": "a fox"}
    for word, prompt in (("fox; ball", "x"), ("", "x"), ("fox", "a; b")):
        with pytest.raises(BadInput, match="must not"):
            restyle(word, "a.png", prompt)


def test_helper_entries_equal_the_text_options(inverted):
    """Entries of helpers and one plain entry are joined into one method; two plain entries are refused."""
    options = {"move": "cat: 0.25, 0; dog: -0.25, 0", "resize": "cat: 1.5", "energy_scale": 2.0}
    wanted = inverted.edit("", guidance_scale=1.0, **options)
    entries = [move("cat", right=0.25), resize("cat", 1.5), ("self-guidance", {"energy_scale": 2.0})]
    made = inverted.edit("", guidance_scale=1.0, methods=[*entries, move("dog", right=-0.25)])
    assert np.array_equal(made.pixels[0], wanted.pixels[0])
    assert len(made.recipes[0]["methods"]) == 1
    with pytest.raises(BadInput, match="energy_scale is given twice"):
        inverted.edit_steps("", methods=[entries[2], Change("self-guidance", {"energy_scale": 1.0})])
    with pytest.raises(BadInput, match="named twice"):
        inverted.edit_steps("", methods=["self-guidance", ("self-guidance", {"energy_scale": 1.0})])


def every(files):
    """Entries for every use of reference images."""
    one, two = files
    return {
        "restyle": [restyle("cat", one, "blue dog", there="dog")],
        "object": [object_from("cat", one, "cat"), object_from("dog", two, "red dog")],
        "appearance": [appearance_from(two, "red dog")],
        "layout": [layout_from(one, "cat")],
        "layout and appearance": [layout_from(one, "cat"), appearance_from(two, "cat")],
    }


@pytest.mark.parametrize("name", ["restyle", "object", "appearance", "layout", "layout and appearance"])
def test_reference_images_change_generated_and_inverted_images(sd, inverted, files, name):
    entries = every(files)[name]
    plain = sd.generate(PROMPT, seed=[0, 1], **STEPS)
    made = sd.generate(PROMPT, methods=entries, seed=[0, 1], **STEPS)
    assert not np.array_equal(plain.pixels[0], made.pixels[0])
    alone = sd.generate(PROMPT, methods=entries, seed=1, **STEPS)
    assert abs(alone.pixels[0].astype(int) - made.pixels[1]).max() <= 2
    still = inverted.edit("", guidance_scale=1.0)
    edited = inverted.edit("", guidance_scale=1.0, methods=entries)
    assert not np.array_equal(still.pixels[0], edited.pixels[0])


def test_reference_images_are_evaluated_in_one_call(sd, files):
    """Steps 0 and 1 are guided; one call of four rows evaluates both references at both steps."""
    options = {"schedule": "window", "start": 0.0, "end": 0.5, "energy_scale": 1.0}
    plain = sd.generate(PROMPT, guidance_scale=1.0, **STEPS).report["network_evaluations"]
    entries = [object_from("cat", files[0], "cat"), object_from("dog", files[1], "dog")]
    made = sd.generate(PROMPT, guidance_scale=1.0, methods=[*entries, ("self-guidance", options)], **STEPS)
    assert plain == {"calls": 4, "samples": 4}
    assert made.report["network_evaluations"] == {"calls": 4 + 1, "samples": 4 + 4}


def test_recipes_contain_the_file_names_without_folders(sd, files):
    made = sd.generate(PROMPT, methods=[restyle("cat", files[0], "cat")], **STEPS)
    assert made.recipes[0]["methods"][0]["restyle"] == "cat: one.png: cat"
    assert [each["name"] for each in made.recipes[0]["files"]] == ["one.png"]


def test_invalid_entries_are_refused_before_any_evaluation(sd, inverted, files, tmp_path):
    wide = tmp_path / "wide.png"
    tiny_image(64, 32).save(wide)
    calls = sd.network.count.calls
    mistakes = {
        "must be|No such|not exist|no such": restyle("cat", tmp_path / "absent.png", "cat"),
        '"fox" of restyle is not in the prompt of its image, "cat"': restyle("cat", files[0], "cat", there="fox"),
        '"ca" is not in the prompt "cat"': restyle("cat", files[0], "cat", there="ca"),
        '"fox" is not in the prompt "red cat': restyle("fox", files[0], "fox"),
        "64 x 32 pixels: crop it to the proportions of the edited image, 8 : 8": layout_from(wide, "cat"),
        'layout_prompt "green tree" and the target prompt .* no word in common': layout_from(files[0], "green tree"),
        'appearance_prompt "the tree" and the target': appearance_from(files[0], "the tree"),
    }
    for sentence, entry in mistakes.items():
        with pytest.raises(BadInput, match=sentence):
            sd.generate(PROMPT, methods=[entry], **STEPS)
    with pytest.raises(BadInput, match='"bird" is not in the prompt'):
        inverted.edit_steps("", methods=[swap("cat", "bird")])
    assert sd.network.count.calls == calls


@pytest.mark.parametrize("pixels", [(150, 100), (100, 150), (1920, 1080), (1080, 1920), (128, 128), (500, 333)])
def test_the_source_itself_has_the_proportions_of_its_padded_latents(pixels):
    """A model with f = 8 whose latents are padded to multiples of 4."""
    width, height = pixels
    size = tuple(-(-side // 32) * 4 for side in (height, width))
    check_proportions(pixels, "own.png", size, 4)
    with pytest.raises(BadInput, match="crop it to the proportions"):
        check_proportions((2 * width, height), "wide.png", size, 4)
