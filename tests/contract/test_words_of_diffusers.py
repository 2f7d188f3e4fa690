"""Argument names of diffusers are accepted, or refused with the name to use; signatures list all arguments."""

import inspect
import re

import numpy as np
import pytest
import torch

import sfumato
from sfumato.api.words_of_diffusers import ADVICE, advice
from sfumato.errors import BadInput
from tests import tiny


@pytest.fixture(scope="module")
def model(tiny_sd_folder):
    return sfumato.load(tiny_sd_folder, "cpu")


@pytest.fixture(scope="module")
def inverted(model):
    return model.invert(tiny.tiny_image(), "red apple", num_inference_steps=2)


def test_num_inference_steps_is_another_name_for_steps(model, inverted):
    assert np.array_equal(
        model.generate("red cat", num_inference_steps=2, guidance_scale=3.0).pixels[0],
        model.generate("red cat", steps=2, guidance_scale=3.0).pixels[0],
    )
    assert inverted.groups[0].inversion.steps == 2
    with pytest.raises(BadInput, match="another name for steps"):
        model.generate("red cat", num_inference_steps=2, steps=2)


@pytest.mark.parametrize("methods", [None, [], ["colour"], "colour"])
@pytest.mark.parametrize("word", ["num_inference_steps", "steps"])
def test_an_edit_cannot_change_the_number_of_steps(inverted, word, methods):
    message = f"{word}: the number of steps was fixed at inversion; leave {word} out, or invert the image again with it"
    with pytest.raises(BadInput, match=message):
        inverted.edit_steps("blue", methods=methods, **{word: 2})


@pytest.fixture(scope="module")
def calls(model, inverted):
    """The calls by name, with the options to be tried."""
    image = tiny.tiny_image()
    return {
        "generate": [lambda **options: model.generate("red", **options)],
        "invert": [lambda **options: model.invert(image, "red", **options)],
        "plan": [
            lambda **options: model.plan(image, "red", "blue", **options),
            lambda **options: model.plan(image, "red", "blue", methods=["colour"], **options),
        ],
        "interpolate": [lambda **options: model.interpolate(image, image, ("red", "blue"), **options)],
        "edit": [
            lambda **options: inverted.edit("blue", **options),
            lambda **options: inverted.edit("blue", methods="colour", **options),
            lambda **options: inverted.edit("blue", methods=["colour"], **options),
        ],
    }


RUN = ("eta", "source_guidance_scale", "exact")
CALLS = ("generate", "invert", "plan", "interpolate", "edit")


@pytest.mark.parametrize("word", ADVICE)
@pytest.mark.parametrize("name", CALLS)
def test_other_diffusers_arguments_are_refused_with_a_hint(word, name, calls):
    if word in inspect.signature(getattr(sfumato.Inverted if name == "edit" else sfumato.Model, name)).parameters:
        return
    for call in calls[name]:
        with pytest.raises(BadInput) as raised:
            call(**{word: torch.Generator()})
        assert str(raised.value) == f"{word} is an option of diffusers; here, {advice(word, name)}."


PARAMETER = re.compile(r"(\w+)=")


@pytest.mark.parametrize("name", CALLS)
def test_the_advice_names_arguments_of_the_call(name):
    """An advice "use NAME=..." without another call or function names an argument of the call, so "use NAME" works."""
    owner = sfumato.Inverted if name == "edit" else sfumato.Model
    for word in ADVICE:
        sentence = advice(word, name)
        if re.match(r"use \w+=", sentence) and not re.search(r" of (?:invert|edit)\b", sentence):
            assert PARAMETER.search(sentence)[1] in inspect.signature(getattr(owner, name)).parameters, (word, sentence)
        for call in re.findall(r"(\w+_steps)\b", sentence):
            assert hasattr(owner, call), (word, sentence)


@pytest.mark.parametrize(
    ("name", "option", "message"),
    [
        ("edit", "height", "of invert: results have the size of the image"),
        ("generate", "height", r"use size=\(width, height\)"),
        ("invert", "width", "use resolution="),
        ("edit", "generator", "use seed=N of invert"),
        ("generate", "generator", "use seed=N, one per image"),
        ("edit", "num_images_per_prompt", r"seed=\[0, 1, 2\] of invert"),
        ("generate", "strength", "a generation begins with noise"),
        ("invert", "prompt", "as the second argument"),
        ("edit", "image", "the images that were given to invert"),
        ("invert", "mask_image", "use mask=IMAGE of edit"),
        ("edit", "sigmas", "give steps=N to invert"),
        ("invert", "negative_prompt", "give negative_prompt to edit"),
        ("edit", "callback_on_step_end", "use edit_steps"),
        ("plan", "callback_on_step_end", r"plan\(...\).run\(\)"),
        ("interpolate", "generator", "no random noise"),
    ],
)
def test_advice_depends_on_the_call(name, option, message, calls):
    with pytest.raises(BadInput, match=f"here, .*{message}"):
        calls[name][0](**{option: None})


@pytest.mark.parametrize(
    ("option", "what"), [("seed", "the seed"), ("resolution", "the resolution"), ("tiles", "the use of"), ("eta", "it")]
)
def test_an_edit_names_options_that_its_inversion_fixed(option, what, calls):
    for call in calls["edit"]:
        with pytest.raises(BadInput, match=f"{option}: {what}.* was fixed at inversion; leave {option} out"):
            call(**{option: 1})


def test_options_in_signatures_have_the_effect_of_those_of_the_method(model):
    """None is the default, and other values reach the parameters of the run."""
    image, run = tiny.tiny_image(), {"steps": 3, "eta": 0.5, "source_guidance_scale": 2.0, "exact": False, "skip": 1}
    for sources in (
        model.invert(image, "red", **run, guidance_scale=4.0),
        model.plan(image, "red", "blue", **run, guidance_scale=4.0).sources,
    ):
        assert {name: getattr(sources.params, name) for name in run} == run
    assert (
        model.invert(image, "red", steps=3, skip=None, exact=None, eta=None).params
        == model.invert(image, "red", steps=3).params
    )
    inverted = model.invert(image, "red", steps=3)
    first, second = (inverted.edit("blue", skip=skip).report["parameters"]["skip"] for skip in (0, 2))
    assert (first, second) == (0, 2)
    assert inverted.edit("blue", skip=None).report["parameters"]["skip"] == inverted.params.skip


def test_options_of_an_interpolation_reach_its_run(model):
    image = tiny.tiny_image()
    run = {"steps": 2, "refine": 1, "source_guidance_scale": 2.0, "guidance_scale": 3.0}
    found = model.interpolate(image, image, ("red", "blue"), frames=2, **run).report["parameters"]
    assert {name: found[name] for name in run} == run
    assert model.interpolate(image, image, frames=2, num_inference_steps=2).report["parameters"]["steps"] == 2
    assert model.interpolate(image, image, frames=2, steps=2).report["parameters"]["guidance_scale"] == 1


@pytest.mark.parametrize(
    ("owner", "name", "expected"),
    [
        (sfumato.Model, "generate", ("prompts", "seed", "size", "steps", "guidance_scale", "eta", "negative_prompt")),
        (sfumato.Model, "invert", ("images", "prompts", "method", "seed", "steps", "max_pixels", *RUN, "skip")),
        (sfumato.Model, "interpolate", ("first", "second", "prompts", "frames", "time", "steps", "refine", "batch")),
        (sfumato.Inverted, "edit", ("prompts", "methods", "guidance_scale", "mask", "mask_words", "skip")),
    ],
)
def test_signatures_list_arguments_and_return_types(owner, name, expected):
    call, steps = getattr(owner, name), getattr(owner, f"{name}_steps")
    ours, theirs = inspect.signature(call), inspect.signature(steps)
    assert list(ours.parameters) == list(theirs.parameters)
    assert set(expected) <= set(ours.parameters)
    assert call.__name__ == name
    assert "Args:" in inspect.getdoc(call)
    assert ours.return_annotation.__name__ in {"Result", "Inverted"}
    assert {*RUN, "steps", "skip"} <= set(inspect.signature(sfumato.Model.plan).parameters)
