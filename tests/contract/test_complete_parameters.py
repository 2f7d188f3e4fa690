"""Methods with complete parameters, (name, parameters): used as they are, refused if they do not fit the run."""

import pickle
from dataclasses import dataclass, replace

import numpy as np
import pytest

from sfumato.changes import move
from sfumato.editing.registry import METHODS
from sfumato.methods.colour import ColourParams
from sfumato.methods.edit_friendly import EditFriendlyParams
from sfumato.options.defaults import completed
from sfumato.options.files import without_texts
from sfumato.options.params import Params
from tests.contract.composed import CHANGING, IMAGES, RUN, SOURCE, STEPS, TARGET, refused

NAMES = ("prompt-to-prompt", "colour")
INVERTED = {"steps": STEPS, "eta": 1.0, "source_guidance_scale": 3.5, "exact": False}
"""Options of the fixture `inverted_by` for edit-friendly inversions."""


def complete(network, name, **options):
    """Complete parameters of a method for a short run by an edit-friendly inversion."""
    method = METHODS.find(name)
    given = INVERTED | RUN | CHANGING.get(name, {}) | options
    return completed(method.params, method.section, given, network)


@pytest.fixture
def pairs(sd):
    """Methods with parameters."""
    return [(name, complete(sd.network, name)) for name in NAMES]


@pytest.fixture
def inverted(inverted_by):
    return inverted_by("edit-friendly", (0,))


def by_options():
    return [(name, CHANGING[name]) for name in NAMES]


def check_equal(found, wanted):
    assert all(map(np.array_equal, found.pixels, wanted.pixels))
    assert found.recipes == wanted.recipes
    assert found.report["parameters"] == wanted.report["parameters"]


def test_edit_equals_the_edit_with_options(inverted, pairs):
    check_equal(inverted.edit(TARGET[0], methods=pairs), inverted.edit(TARGET[0], methods=by_options(), **RUN))


def test_plan_equals_the_plan_with_options(sd, pairs):
    wanted = sd.plan(IMAGES[0], SOURCE[0], TARGET[0], methods=by_options(), **INVERTED, **RUN).run().result
    plan = sd.plan(IMAGES[0], SOURCE[0], TARGET[0], methods=pairs)
    assert plan.sources.params is pairs[0][1]
    assert [params for _, params in plan.edit.composition.methods] == [params for _, params in pairs]
    check_equal(plan.run().result, wanted)
    check_equal(pickle.loads(pickle.dumps(plan)).on(sd).run().result, wanted)


def test_method_of_the_inversion_with_parameters(sd):
    """The defaults of the model do not apply to them; the other method has defaults."""
    params = EditFriendlyParams(steps=STEPS, skip=2, guidance_scale=5.0)
    made = sd.invert(IMAGES[0], SOURCE[0], steps=STEPS)
    for found in (
        made.edit(TARGET[0], methods=[("edit-friendly", params), "colour"]),
        sd.plan(IMAGES[0], SOURCE[0], TARGET[0], methods=[("edit-friendly", params), "colour"]).run().result,
    ):
        check_equal(found, made.edit(TARGET[0], methods=["edit-friendly", "colour"], skip=2, guidance_scale=5.0))


def test_options_of_the_run_take_precedence(inverted, pairs):
    run = {"skip": 2, "guidance_scale": [4.0, 6.0]}
    found, wanted = (inverted.edit(TARGET[0], methods=methods, **run) for methods in (pairs, by_options()))
    check_equal(found, wanted)
    assert [recipe["guidance_scale"] for recipe in found.recipes] == [4.0, 6.0]


def test_generation_equals_the_generation_with_options(sd):
    options = {"objects": "cat"}
    method = METHODS.find("objects")
    params = completed(
        method.params, method.section, {"steps": 2, "skip": 0, "guidance_scale": 3.0, **options}, sd.network
    )
    found, wanted = (
        sd.generate("red cat", methods=[("objects", own)], steps=2, guidance_scale=3.0) for own in (params, options)
    )
    check_equal(found, wanted)
    message = "The parameters of objects have steps = 2, but steps is 3 for the complete run"
    refused(
        sd, message, lambda: sd.plan_generation("red cat", methods=[("objects", params)], steps=3, guidance_scale=3.0)
    )
    refused(sd, "takes parameters of the class", lambda: sd.generate("red cat", methods=[("objects", ColourParams())]))


@dataclass(frozen=True)
class Other(ColourParams):
    """A subclass of the class of another method."""


def refusals():
    """Methods, other options of the edit -> part of the message."""
    colour = ColourParams(**INVERTED, **RUN)
    return [
        (
            [("prompt-to-prompt", colour)],
            {},
            "prompt-to-prompt takes parameters of the class PromptToPromptParams, not of",
        ),
        ([("colour", Other(**INVERTED, **RUN))], {}, "of the class ColourParams, not of Other"),
        ([("colour", ColourParams)], {}, "A method must be a name"),
        ([("colour", replace(colour, steps=9))], {}, "have steps = 9, but steps is 4 for the complete run"),
        ([("colour", colour), "colour"], {}, "colour is named twice"),
        ([("colour", replace(colour, amount=11))], {}, "amount must be between 0 and 10"),
        ([("colour", colour)], {"skip": STEPS}, "skip must be between 0 and 3"),
        ([("colour", colour)], {"amount": 0.2}, "'amount' belongs to a method"),
        (["edit-friendly", ("colour", colour)], {}, "The parameters of colour have .* for the complete run"),
        ([("self-guidance", colour), move("cat", right=0.2)], {}, "self-guidance"),
    ]


@pytest.mark.parametrize(("methods", "options", "message"), refusals())
def test_parameters_that_do_not_fit_are_refused(sd, inverted, methods, options, message):
    refused(sd, message, lambda: inverted.edit_steps(TARGET[0], methods=methods, **options))
    if "steps" not in message:
        refused(sd, message, lambda: sd.plan(IMAGES[0], SOURCE[0], TARGET[0], methods=methods, **options))


def test_options_of_the_inversion_are_set_in_the_parameters(sd):
    methods = [("colour", ColourParams(**INVERTED, **RUN))]
    message = "The parameters of colour are complete: set steps in them"
    refused(sd, message, lambda: sd.plan(IMAGES[0], SOURCE[0], TARGET[0], methods=methods, steps=3))


def test_model_without_text_refuses_methods_and_guidance_that_need_it(models):
    model = models("ddpm")
    network = model.network
    made = model.invert(IMAGES[0], steps=STEPS)
    needs_text = complete(network, "prompt-to-prompt", source_guidance_scale=1.0, guidance_scale=1.0)
    for methods, message in {
        (("prompt-to-prompt", needs_text),): "has no text input, which the method needs",
        (("edit-friendly", EditFriendlyParams(steps=STEPS, skip=1)),): "guidance_scale",
    }.items():
        refused(model, message, lambda methods=methods: made.edit_steps(methods=methods))
        refused(model, message, lambda methods=methods: model.plan(IMAGES[0], methods=methods))


def test_parameters_are_checked_once_and_copies_again(monkeypatch):
    checked, check = [], Params.check
    monkeypatch.setattr(Params, "check", lambda params: checked.append(params) or check(params))
    params = EditFriendlyParams()
    assert params.checked
    assert params.checked
    assert checked == [params]
    for copy in (replace(params), pickle.loads(pickle.dumps(params)), without_texts(params)):
        assert copy.checked
    assert len(checked) == 4
