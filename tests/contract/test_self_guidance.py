"""Self-Guidance and the methods for several objects: options, refusals before any evaluation, generation and edits."""

import numpy as np
import pytest
import torch

from sfumato.api import load
from sfumato.api.generation_plan import job_of
from sfumato.core.guidance import classifier_free
from sfumato.core.noise import gaussian_batch
from sfumato.core.path import repeat_first
from sfumato.core.shift import WORDS, Shift
from sfumato.core.step import add_noise_between
from sfumato.editing.generate import GenerateParams, first_latent, generate
from sfumato.editing.registry import METHODS
from sfumato.errors import BadInput
from sfumato.methods.attend_and_excite import AttendAndExciteParams
from sfumato.methods.self_guidance import others
from sfumato.methods.several_objects import SeveralObjectsParams
from sfumato.options.named_objects import ObjectsParams, presence
from sfumato.options.objects import parse, parse_swaps
from sfumato.options.other_images import OtherImages
from sfumato.options.self_guidance import SelfGuidanceParams
from sfumato.shifts.energy.warp import Warp
from tests.tiny import tiny_image

STEPS = {"steps": 4}


@pytest.fixture(scope="module")
def sd(tiny_sd_folder):
    return load(str(tiny_sd_folder), "cpu")


@pytest.fixture(scope="module")
def inverted(sd):
    return sd.invert(tiny_image(32, 32), "red cat and dog", method="self-guidance", **STEPS)


def test_changes_are_combined_by_word():
    found = parse("fox: 0.2, -0.1; the ball: 0, 0.5", "fox: 1.5", "the ball: 1, 0.5, 30; tree: 2, 2")
    assert found == {
        "fox": Warp(right=0.2, down=-0.1, width=1.5, height=1.5),
        "the ball": Warp(down=0.5, width=1, height=0.5, angle=30),
        "tree": Warp(width=2, height=2),
    }
    assert parse("Red  Fox: 0.2, 0", "red fox: 2", "") == {"red fox": Warp(right=0.2, width=2, height=2)}
    assert parse("", " ", "") == {}
    assert parse_swaps("fox, the ball") == {"fox": "the ball", "the ball": "fox"}


MISTAKES = {
    ("move", "fox"): 'move must be WORD: a number, a number.* not "fox"',
    ("move", "fox: 1"): "WORD: a number, a number",
    ("move", "fox: 1, x"): "WORD: a number, a number",
    ("move", "fox: nan, 0"): "WORD: a number, a number",
    ("move", ": 0, 0"): "WORD: a number, a number",
    ("move", "fox: 0, 1.5"): 'move of "fox" must be above -1 and below 1, not 1.5',
    ("move", "fox: 1, 1"): 'move of "fox" must be above -1 and below 1, not 1',
    ("move", "fox: 0, 0.5; fox: 0.5, 0"): 'move names "fox" twice',
    ("move", "fox: 0.2, 0; Fox: -0.2, 0"): 'move names "Fox" twice',
    ("swap", "fox, FOX"): "swap must name every word once",
    ("place", "red  fox: 0.2, 0; Red fox: 0.2, 0"): 'place names "Red fox" twice',
    ("restyle", "fox: a.png: fox; Fox: b.png: fox"): 'restyle names "fox" twice',
    ("resize", "fox: 0"): "between 0.1 and 10",
    ("reshape", "fox: 1, 1, 400"): "between -360 and 360",
    ("place", "fox: 0.5, 2"): "between 0 and 1",
    ("cover", "fox: 0"): "above 0 and at most 1",
    ("box", "fox: 0.1, 0.2, 0.5"): "WORD: a number, a number, a number, a number",
    ("box", "fox: 0.1, 0.2, 1.5, 0.9"): 'box of "fox" must be between 0 and 1, not 1.5',
    ("box", "fox: 0.1, 0.5, 0.5, 0.5"): 'box of "fox" must have left below right and top below bottom, not 0.1, 0.5, 0',
    ("box", "Red fox: 0.6, 0.2, 0.5, 0.9"): 'box of "red fox" must have left below right and top below bottom',
    ("swap", "fox"): 'swap must be WORD, WORD; several pairs separated by semicolons; not "fox"',
    ("swap", "fox, ball; ball, cat"): "swap must name every word once",
    ("restyle", "fox: fox.png"): "restyle must be WORD: FILE: PROMPT OF THAT IMAGE",
    ("objects_from", "fox: a.png: fox; fox: b.png: fox"): 'objects_from names "fox" twice',
}


@pytest.mark.parametrize(("option", "text"), MISTAKES)
def test_malformed_options_are_refused(option, text):
    with pytest.raises(BadInput, match=MISTAKES[option, text]):
        SelfGuidanceParams(**{option: text}).check()


def test_thresholds_without_attention_are_refused():
    with pytest.raises(BadInput, match="thresholds must be FRACTION: ATTENTION; several"):
        AttendAndExciteParams(thresholds="0.5").check()


def test_invalid_option_combinations_are_refused():
    with pytest.raises(BadInput, match='resize and reshape both name "fox"'):
        SelfGuidanceParams(resize="fox: 2", reshape="fox: 1, 2").check()
    with pytest.raises(BadInput, match='resize and reshape both name "fox"'):
        SelfGuidanceParams(resize="fox: 2", reshape="Fox: 1, 2").check()
    boxed = [("box", other) for other in ("place", "cover", "move", "swap", "resize", "reshape")]
    for first, second in (
        *(("place", "move"), ("place", "swap"), ("cover", "resize"), ("cover", "reshape")),
        *boxed,
    ):
        texts = {
            "box": "fox: 0, 0, 0.5, 0.5",
            "place": "Fox: 0.2, 0.2", "cover": "Fox: 0.5", "move": "fox: 0.1, 0", "swap": "fox, ball",
            "resize": "fox: 2", "reshape": "fox: 1, 2",
        }  # fmt: skip
        with pytest.raises(BadInput, match=f'{first} and .*{second}.* contradict each other for "fox"'):
            SelfGuidanceParams(**{name: texts[name] for name in (first, second)}).check()
    for window in ({"start": 0.1}, {"end": 0.1}):
        with pytest.raises(BadInput, match="start and end belong to the schedule window"):
            SelfGuidanceParams(**window).check()
        SelfGuidanceParams(schedule="window", **window).check()
    SelfGuidanceParams(schedule="thirds", start=0.0, end=0.5).check()
    with pytest.raises(BadInput, match=r"start must be below end = 0.5"):
        SelfGuidanceParams(schedule="window", start=0.5).check()
    with pytest.raises(BadInput, match='objects_from sets all properties of "fox"'):
        SelfGuidanceParams(objects_from="fox: a.png: fox", move="fox: 0.1, 0").check()
    with pytest.raises(BadInput, match="Give layout_from, an image, and layout_prompt, its prompt, together"):
        SelfGuidanceParams(layout_from="a.png").check()
    with pytest.raises(BadInput, match="objects are separated by commas"):
        ObjectsParams(objects="cat,,dog").check()


WITHOUT_EFFECT = {
    "move": ("fox: 0.1, 0", "centroid shape"),
    "resize": ("fox: 2", "size shape"),
    "reshape": ("fox: 1, 1, 30", "size shape"),
    "swap": ("fox, ball", "centroid shape"),
    "place": ("fox: 0.1, 0.1", "centroid"),
    "cover": ("fox: 0.5", "size"),
    "box": ("fox: 0, 0, 0.5, 0.5", "centroid shape"),
    "restyle": ("fox: a.png: fox", "appearance"),
    "objects_from": ("fox: a.png: fox", "centroid size shape appearance"),
    "appearance_from": ("a.png", "appearance"),
    "layout_from": ("a.png", "shape"),
}


@pytest.mark.parametrize("name", WITHOUT_EFFECT)
def test_an_option_whose_terms_have_weight_zero_is_refused(name):
    text, terms = WITHOUT_EFFECT[name]
    prompts = {f"{kind}_from": {f"{kind}_prompt": "fox"} for kind in ("appearance", "layout")}
    given = {name: text} | prompts.get(name, {})
    zeros = {f"{term}_weight": 0.0 for term in terms.split()}
    with pytest.raises(BadInput, match=f"{name} has no effect .*: set {' or '.join(zeros)} above 0"):
        SelfGuidanceParams(**given | zeros).check()
    for weight in zeros:
        SelfGuidanceParams(**given | zeros | {weight: 0.5}).check()


OBJECTS_WITHOUT_EFFECT = {
    "cat": "presence_weight",
    "red cat": "presence_weight or bound_weight",
    "cat, dog": "presence_weight or apart_weight",
    "red cat, dog": "presence_weight or apart_weight or bound_weight",
}


@pytest.mark.parametrize("objects", OBJECTS_WITHOUT_EFFECT)
def test_objects_whose_terms_have_weight_zero_are_refused(objects):
    names = OBJECTS_WITHOUT_EFFECT[objects].split(" or ")
    with pytest.raises(BadInput, match=f"objects has no effect .*: set {OBJECTS_WITHOUT_EFFECT[objects]} above 0"):
        SeveralObjectsParams(objects=objects, **dict.fromkeys(names, 0.0)).check()
    SeveralObjectsParams(**dict.fromkeys(names, 0.0)).check()


def test_unknown_words_are_refused_before_any_evaluation(sd, inverted):
    calls = sd.network.count.calls
    with pytest.raises(BadInput, match='"bird" is not in the prompt "red cat and dog"'):
        inverted.edit_steps("", move="bird: 0.1, 0")
    with pytest.raises(BadInput, match='"tree" is not in the prompt'):
        sd.generate_steps("red cat", methods=[("objects", {"objects": "cat, tree"})], **STEPS)
    with pytest.raises(
        BadInput, match="prompt-to-prompt edits images and cannot be used to generate them; these methods"
    ):
        sd.generate_steps("red cat", methods=["prompt-to-prompt"], **STEPS)
    with pytest.raises(BadInput, match="The method objects is named twice"):
        sd.generate_steps("red cat", methods=["objects", "objects"], **STEPS)
    with pytest.raises(BadInput, match='"dog" is not in the prompt "red cat"'):
        sd.generate_steps("red cat", methods=[("self-guidance", {"move": "dog: 0.1, 0"})], **STEPS)
    assert sd.network.count.calls == calls


NO_STEP = {
    "thirds guides none of the remaining steps \\(1\\)": ("self-guidance", {"place": "cat: 0.2, 0.5"}, 1),
    "window guides none of the remaining steps \\(4\\)": (
        "self-guidance", {"place": "cat: 0.2, 0.5", "schedule": "window", "start": 0.8, "end": 0.9}, 4,
    ),
    "end must be above 0": ("objects", {"objects": "cat", "end": 0.0}, 4),
    "thresholds names a fraction of the run twice": (
        "attend-and-excite", {"objects": "cat", "thresholds": "0: 0.1; 0.0: 0.2"}, 4,
    ),
}  # fmt: skip
"""Words of the refusal: method, options, and number of steps."""


@pytest.mark.parametrize("message", NO_STEP)
def test_guidance_that_acts_in_no_step_is_refused(sd, message):
    name, options, steps = NO_STEP[message]
    calls = sd.network.count.calls
    with pytest.raises(BadInput, match=message):
        sd.generate_steps("red cat", methods=[(name, options)], steps=steps)
    with pytest.raises(BadInput, match=message):
        sd.plan(tiny_image(32, 32), "red cat", "blue cat", methods=[(name, options)], steps=4, skip=4 - steps)
    assert sd.network.count.calls == calls


IMPOSSIBLE = {
    ("resize", "cat: 9"): "A factor of 9 makes any object smaller than a cell .*8 x 8 cells.*between 0.125 and 8",
    ("resize", "cat: 0.1"): "A factor of 0.1 makes any object smaller than a cell",
    ("reshape", "dog: 1, 8.5, 30"): 'A factor of 8.5 .*give "dog" one between 0.125 and 8',
    ("box", "cat: 0.1, 0, 0.2, 1"): 'box of "cat" is smaller than a cell of the attention maps, 1/8 of the width',
    ("box", "cat: 0, 0.9, 1, 1"): 'box of "cat" is smaller than a cell of the attention maps',
}


@pytest.mark.parametrize(("option", "text"), IMPOSSIBLE)
def test_sizes_that_the_maps_cannot_represent_are_refused(sd, inverted, option, text):
    calls = sd.network.count.calls
    with pytest.raises(BadInput, match=IMPOSSIBLE[option, text]):
        inverted.edit_steps("", **{option: text})
    assert sd.network.count.calls == calls


OUTSIDE = 'More than half of the target of "cat" lies outside the image: choose a smaller displacement or size.'


@pytest.mark.parametrize(
    "options",
    [
        {"move": "cat: 0.9, 0"},
        {"move": "cat: 0, -0.9", "shape_weight": 0.0},
        {"resize": "cat: 6"},
        {"resize": "cat: 6", "shape_weight": 0.0},
        {"reshape": "cat: 6, 1"},
    ],
)
def test_target_outside_the_image_is_noted(inverted, options):
    assert inverted.edit("", **options).report["notes"] == [OUTSIDE]
    alone = inverted.edit(["red cat and dog", "red dog"], methods=[("objects", {"objects": "dog"})])
    assert alone.report["notes"] == []


@pytest.mark.parametrize(
    "options", [{"move": "cat: 0.1, 0"}, {"resize": "cat: 0.5"}, {"swap": "cat, dog"}, {"box": "cat: 0, 0, 0.5, 1"}]
)
def test_target_inside_the_image_is_not_noted(inverted, options):
    assert inverted.edit("", **options).report["notes"] == []


@pytest.mark.parametrize("named", [("self-guidance", {"place": "cat: 0.2, 0.5"}), ("objects", {"objects": "cat, dog"})])
def test_coarse_attention_maps_are_noted(sd, named):
    notes = [sd.generate("red cat and dog", methods=[named], size=side, **STEPS).report["notes"] for side in (8, 32)]
    assert "The attention maps that locate words have 2 x 2 cells at this size, too few" in notes[0][0]
    assert (len(notes[0]), notes[1]) == (1, [])


def test_other_words_are_those_in_both_prompts(sd, inverted):
    plan = sd.plan(tiny_image(32, 32), "red cat and dog", "blue cat and dog!", methods="self-guidance", **STEPS)
    job = plan.edit.batches[0].job
    found = others(job, ["cat"], OtherImages(job, {}))
    assert list(found) == ["dog"], "and is a function word"
    for name, word in found.items():
        assert word.present.tolist() == [1.0]
        assert word.target[0].nonzero().flatten().tolist() == list(job.condition.prompts[0].positions(name))
        assert word.source[0].nonzero().flatten().tolist() == list(job.source.prompts[0].positions(name))
    assert others(job, ["cat and dog"], OtherImages(job, {})) == {}


@pytest.mark.parametrize(
    "option",
    [
        {"move": "cat: 0.25, 0"},
        {"resize": "cat: 2"},
        {"swap": "cat, dog"},
        {"place": "cat: 0.2, 0.2"},
        {"box": "cat: 0, 0, 0.5, 1"},
    ],
)
def test_edit_has_effect_and_does_not_depend_on_batch(sd, inverted, option):
    still = inverted.edit("", guidance_scale=1.0).pixels[0]
    moved = inverted.edit("", guidance_scale=1.0, energy_scale=0.5, **option)
    assert not np.array_equal(still, moved.pixels[0])
    assert moved.recipes[0]["methods"][0] | option == moved.recipes[0]["methods"][0]
    prompts = ["red cat and dog", "green cat and dog"]
    both = inverted.edit(prompts, guidance_scale=1.0, energy_scale=0.5, **option)
    assert abs(both.pixels[0].astype(int) - moved.pixels[0]).max() <= 2


@pytest.mark.parametrize(
    "named",
    [
        ("self-guidance", {"place": "cat: 0.2, 0.3", "cover": "cat: 0.4", "energy_scale": 2.0}),
        ("self-guidance", {"box": "cat: 0.1, 0.2, 0.5, 0.9; dog: 0.5, 0, 1, 1", "energy_scale": 2.0}),
        ("attend-and-excite", {"objects": "red cat, dog"}),
        ("objects", {"objects": "red cat, dog", "energy_scale": 2.0}),
    ],
    ids=lambda named: named[0],
)
def test_methods_change_generated_images(sd, named):
    options = {"seed": [0, 1], **STEPS}
    plain = sd.generate("red cat and dog", **options)
    made = sd.generate("red cat and dog", methods=[named], **options)
    assert not np.array_equal(plain.pixels[0], made.pixels[0])
    assert made.recipes[0]["methods"][0]["method"] == named[0]
    again = sd.generate("red cat and dog", methods=[named], seed=1, **STEPS)
    assert abs(again.pixels[0].astype(int) - made.pixels[1]).max() <= 2
    without = sd.generate("red cat and dog", methods=[named[0]], **options)
    assert np.array_equal(plain.pixels[0], without.pixels[0])


class Reading(Shift):
    """Stores the latents of the source that taps read."""

    def noise(self, state, eps):
        self.latents = state.network.network.latents
        return eps


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_generated_images_are_compared_with_those_of_the_same_seeds(sd, eta):
    """The reference is the trajectory of a generation without methods, bit for bit."""
    reading, options = Reading(), {"seed": [0, 1], "guidance_scale": 3.0, "eta": eta, "batch": 4, **STEPS}
    plain = list(sd.generate_steps("red cat and dog", **options))
    moved = [("self-guidance", {"move": "cat: 0.25, 0"})]
    run = sd.generate_steps("red cat and dog", methods=moved, shifts=[reading], **options)
    steps = list(run)
    assert [each.stage for each in steps] == ["reference"] * 4 + ["generate"] * 4
    assert [(each.done, each.total) for each in steps[:4]] == [(n, 4) for n in range(1, 5)]
    assert list(reading.latents) == [each.state.t for each in plain]
    assert all(torch.equal(reading.latents[each.state.t], each.state.x_t) for each in plain)
    assert all(torch.equal(one.state.x_prev, each.state.x_prev) for one, each in zip(steps, plain, strict=False))
    assert not torch.equal(steps[-1].state.x_prev, plain[-1].state.x_prev)
    second = sd.generate("red cat and dog", methods=moved, **options | {"seed": 1})
    assert abs(second.pixels[0].astype(int) - run.result.pixels[1]).max() <= 2


class Replacing(Shift):
    """Replaces the words, whose maps self-guidance reads."""

    def replaces(self, i, steps):
        return (WORDS,)


def test_shifts_are_checked_before_the_reference_is_generated(sd):
    calls = sd.network.count.calls
    methods = [("self-guidance", {"move": "cat: 0.1, 0"})]
    with pytest.raises(BadInput, match="Replacing replaces and self-guidance reads"):
        sd.generate_steps("cat", methods=methods, shifts=[Replacing()], **STEPS)
    assert sd.network.count.calls == calls


@pytest.mark.parametrize(
    "options", [{"move": "cat: 0, 0"}, {"resize": "cat: 1"}, {"move": "dog: 0, 0", "resize": "cat: 1"}]
)
def test_targets_of_the_reference_reproduce_the_generated_image(sd, options):
    """Without the terms of shapes, which compare a soft mask with a binary one; not scaled to unit RMS."""
    plain = sd.generate("red cat and dog", **STEPS).pixels[0]
    given = {"shape_weight": 0.0, "gradient": "plain", "energy_scale": 1000.0}
    still = sd.generate("red cat and dog", methods=[("self-guidance", options | given)], **STEPS).pixels[0]
    assert abs(still.astype(int) - plain).max() <= 1
    away = {name: text.replace("0, 0", "0.3, 0").replace(": 1", ": 1.5") for name, text in options.items()}
    moved = sd.generate("red cat and dog", methods=[("self-guidance", away | given)], **STEPS).pixels[0]
    assert abs(moved.astype(int) - plain).max() > 1


@pytest.mark.parametrize(
    ("name", "option"), [("attend-and-excite", "objects"), ("objects", "objects"), ("self-guidance", "move")]
)
def test_options_of_spaces_are_as_if_not_given(sd, name, option):
    made = sd.generate("red cat", methods=[(name, {option: " "})], **STEPS)
    assert np.array_equal(made.pixels[0], sd.generate("red cat", **STEPS).pixels[0])
    assert any(note.startswith(f"The method {name} had no effect without") for note in made.report["notes"])


def test_generation_follows_the_path_of_its_methods(sd, monkeypatch):
    """The first step is run three times; the noise in between is a function of the seed."""
    monkeypatch.setattr(ObjectsParams, "path", lambda self, steps: repeat_first(steps, 3))
    run = sd.generate_steps("red cat", methods=["objects"], seed=[1, 2], **STEPS)
    progress = list(run)
    assert [(each.state.i, each.state.visit) for each in progress] == [(0, 0), (0, 1), (0, 2), (1, 0), (2, 0), (3, 0)]
    assert [each.done for each in progress] == list(range(1, 7))
    assert {each.total for each in progress} == {6}
    first, second, *_ = (each.state for each in progress)
    noise = gaussian_batch(first.x_t.shape[1:], [1, 2], step=first.t, tag="back up 1")
    expected = add_noise_between(first.x_prev, noise, first.abar_prev, first.abar).float()
    torch.testing.assert_close(second.x_t, expected)


def test_attend_and_excite_step_equals_its_formula(sd):
    """x_t - 20 sqrt(1 - i / (2 (steps - 1))) grad, computed directly for the first step."""

    network, params = sd.network, GenerateParams(steps=4, guidance_scale=3.0)
    condition = network.condition(["red cat and dog"])
    guided = classifier_free(network, network.condition([""]), (3.0,))
    job = job_of(guided, (4, 8, 8), condition, params, [0])
    shifts = METHODS.find("attend-and-excite").shifts(job, AttendAndExciteParams(objects="cat, dog", thresholds=""))
    first = next(iter(generate(guided, (4, 8, 8), condition, params, seeds=[0], shifts=shifts)))
    x = first_latent(guided, (4, 8, 8), [0]).requires_grad_()
    measured = presence(job, [["cat"], ["dog"]], published=True).measure(first)
    eps = network.predict(x, first.t, condition, measured.taps)
    (gradient,) = torch.autograd.grad(measured.value(x, eps).sum(), x)
    torch.testing.assert_close(first.x_t, (x - 20 * gradient).detach())


def test_refinement_repeats_gradient_steps_until_the_threshold(sd):
    """Against the authors' loop: steps while the loss is above 1 - threshold, at most `refinements`, then one more."""
    network, params = sd.network, GenerateParams(steps=4, guidance_scale=1.0)
    condition = network.condition(["red cat and dog"] * 2)
    guided = classifier_free(network, None, (1.0, 1.0))
    job = job_of(guided, (4, 8, 8), condition, params, [0, 1])
    x = first_latent(guided, (4, 8, 8), [0, 1])
    t = network.schedule.timesteps(4)[0]

    def evaluated(x):
        x = x.detach().requires_grad_()
        measured = presence(job, [["cat"], ["dog"]], published=True).measure(None)
        loss = measured.value(x, network.predict(x, t, condition, measured.taps))
        return loss.detach(), torch.autograd.grad(loss.sum(), x)[0]

    start, _ = evaluated(x)
    threshold = float((1 - start).min()) + 0.0002  # one image reaches it sooner than the other
    wanted, count = x, 0
    loss, gradient = evaluated(wanted)
    while (loss > 1 - threshold).any() and count < 30:
        wanted = torch.where((loss > 1 - threshold)[:, None, None, None], wanted - 400 * gradient, wanted)
        loss, gradient = evaluated(wanted)
        count += 1
    assert 1 < count < 30
    wanted = wanted - 400 * gradient
    options = {"objects": "cat, dog", "step_size": 400.0, "end": 0.2}
    for most in (count, 30, 0):
        given = AttendAndExciteParams(**options, thresholds=f"0: {threshold}", refinements=most)
        shifts = METHODS.find("attend-and-excite").shifts(job, given)
        with network.counting() as counted:
            first = next(iter(generate(guided, (4, 8, 8), condition, params, seeds=[0, 1], shifts=shifts)))
        if most:
            torch.testing.assert_close(first.x_t, wanted, rtol=1e-4, atol=1e-4)
        assert counted.calls == (1 + count if most else 1) + 1  # the gradients, and the prediction at the new x_t
    for text in ("0.5", "x: 0.5", "2: 0.5", "0: 1.5"):
        with pytest.raises(BadInput, match="thresholds"):
            AttendAndExciteParams(thresholds=text).check()
