"""Argument names of diffusers are accepted, or refused with the name to use; signatures list all arguments."""

import inspect

import numpy as np
import pytest
import torch

import sfumato
from sfumato.api.arguments import OTHER_WORDS
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


@pytest.mark.parametrize("word", OTHER_WORDS)
def test_other_diffusers_arguments_are_refused_with_a_hint(word, model, inverted):
    for call in (
        lambda **options: model.generate("red", **options),
        lambda **options: model.invert(tiny.tiny_image(), "red", **options),
        lambda **options: model.plan(tiny.tiny_image(), "red", "blue", **options),
        lambda **options: inverted.edit("blue", **options),
        lambda **options: inverted.edit("blue", methods="colour", **options),
        lambda **options: inverted.edit("blue", methods=["colour"], **options),
    ):
        with pytest.raises(BadInput, match=f"{word} is an option of diffusers; here, use"):
            call(**{word: torch.Generator()})


@pytest.mark.parametrize(
    ("owner", "name", "expected"),
    [
        (sfumato.Model, "generate", ("prompts", "seed", "size", "steps", "guidance_scale", "eta", "negative_prompt")),
        (sfumato.Model, "invert", ("images", "prompts", "method", "seed", "steps", "max_pixels")),
        (sfumato.Inverted, "edit", ("prompts", "methods", "guidance_scale", "mask", "mask_words")),
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
