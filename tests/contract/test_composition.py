"""Composed methods: any pair over any inversion is composed, or refused in one line before any evaluation."""

from functools import cache
from itertools import combinations, islice

import numpy as np
import pytest
import torch

from sfumato.editing.registry import METHODS
from sfumato.inversion.registry import INVERSIONS
from sfumato.options.params import options_of
from tests.contract.composed import CHANGING, IMAGES, RUN, SOURCE, STEPS, TARGET, Own, acting, refused
from tests.metrics.test_text import save_clip

OPTIONS = dict(CHANGING)
"""Options with which each method changes an edit; the fixture `trained` adds files for asyrp, diffuseit and parasol."""
WORDS = ("attend-and-excite", "objects", "pix2pix-zero", "prompt-to-prompt", "self-guidance")
PLACES = ("colour", "diffuseit", "pix2pix-zero", "plug-and-play", "prompt-to-prompt", "self-guidance")
EXCLUSIVE = [
    {"prompt-to-prompt", "plug-and-play"},
    *({"parasol", name} for name in WORDS),
    *({"shift", name} for name in PLACES),
]
"""Pairs that are refused: both methods replace queries and keys of the same self-attention; one replaces the tokens
whose maps the other reads; one moves image content that the other reads at its position in the source.

Not derived from `Shift.replaces` and `Shift.reads`: the list is the expectation that these are tested against."""
PAIRS = list(combinations(METHODS, 2))
KINDS = [name for name in INVERSIONS if any(name in method.accepts for method in METHODS.values())]
TRIPLES = [
    ("edit-friendly", "edit-friendly", "prompt-to-prompt", "pix2pix-zero"),
    ("edit-friendly", "prompt-to-prompt", "pix2pix-zero", "pullback"),
    ("edit-friendly", "shift", "attend-and-excite", "pullback"),
    ("edit-friendly", "plug-and-play", "pix2pix-zero", "pullback"),
    ("edit-friendly", "colour", "pix2pix-zero", "pullback"),
    ("native-ddpm", "native-ddpm", "colour", "plug-and-play"),
    ("native-ddpm", "native-ddpm", "shift", "pullback"),
    ("ddim", "ddim", "prompt-to-prompt", "pullback"),
    ("ddim", "plug-and-play", "pix2pix-zero", "pullback"),
    ("regularised", "prompt-to-prompt", "pix2pix-zero", "pullback"),
]
"""An inversion and three methods each."""


@pytest.fixture(scope="module", autouse=True)
def trained(sd, tmp_path_factory):
    """Add options of asyrp, diffuseit and parasol with files of random weights."""
    folder = tmp_path_factory.mktemp("trained")
    save_clip(folder / "clip")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(OPTIONS, "diffuseit", OPTIONS["diffuseit"] | {"clip_folder": str(folder / "clip")})
        patch.setitem(OPTIONS, "asyrp", acting("asyrp", sd.network, folder, STEPS, factor=20.0) | {"amount": 2.0})
        patch.setitem(OPTIONS, "parasol", acting("parasol", sd.network, folder, STEPS))
        yield


def named(names):
    """The methods with options that change the result."""
    return [(name, OPTIONS.get(name, {})) for name in names]


def edited(inverted, names, indices=(0, 1)):
    """The result and the latents after every step."""
    run = steps_of(inverted, names, indices)
    latents = [progress.state.x_prev for progress in run]
    return run.result, latents


def edited_again(inverted, names, indices, steps):
    """The latents after the first `steps` steps, without decoding and metrics."""
    run = steps_of(inverted, names, indices)
    latents = [progress.state.x_prev for progress in islice(run, steps)]
    run.close()
    return latents


def steps_of(inverted, names, indices):
    return inverted.edit_steps([TARGET[n] for n in indices], methods=named(names), **RUN)


@pytest.fixture(scope="module")
def plain_edit(inverted_by):
    """Latents after an edit without any method, by the inversion; each is computed once."""
    return cache(lambda kind: edited(inverted_by(kind), [])[1][-1])


def check_composed(inverted_by, plain_edit, kind, names):
    """Check that the latents are finite, that a rerun is bit-identical and that a batch changes only rounding."""
    result, (*_, together) = edited(inverted_by(kind), names)
    assert torch.isfinite(together).all()
    assert not torch.equal(together, plain_edit(kind))
    assert [each["method"] for each in result.recipes[0]["methods"]] == list(names)
    alone, latents = edited(inverted_by(kind, (1,)), names, (1,))
    again = edited_again(inverted_by(kind, (1,)), names, (1,), len(latents))
    assert all(torch.equal(*each) for each in zip(latents, again, strict=True))
    by_itself = latents[-1]
    assert (together[1:] - by_itself).abs().max() <= 1e-2 * by_itself.abs().max()
    assert abs(result.pixels[1].astype(int) - alone.pixels[0]).max() <= 2


@pytest.mark.parametrize("names", PAIRS, ids="+".join)
@pytest.mark.parametrize("kind", KINDS)
def test_every_pair_is_composed_or_refused(sd, inverted_by, plain_edit, kind, names):
    refusing = [name for name in names if kind not in METHODS.find(name).accepts]
    if refusing:
        message = f"{refusing[0]} edits inversions by .*, not by {kind}"
    elif set(names) in EXCLUSIVE:
        message = "replace"
    else:
        check_composed(inverted_by, plain_edit, kind, names)
        return
    inverted = inverted_by(kind)
    refused(sd, message, lambda: inverted.edit_steps(TARGET, methods=named(names), **RUN))


def test_size_of_an_object_does_not_depend_on_its_position(inverted_by):
    """Self-guidance that compares no positions with the source can be combined with shift."""
    inverted = inverted_by("edit-friendly", (0,))
    sizes = {"cover": "cat: 0.5", "appearance_weight": 0.0}
    run = inverted.edit_steps("cat", methods=[("self-guidance", sizes), ("shift", {"right": 1})], **RUN)
    assert run.result.pixels[0].shape == (32, 32, 3)


@pytest.mark.parametrize(("kind", *"abc"), TRIPLES, ids=["+".join(each) for each in TRIPLES])
def test_triples_are_composed(inverted_by, plain_edit, kind, a, b, c):
    check_composed(inverted_by, plain_edit, kind, (a, b, c))


def bindings():
    """A method, another method and an inversion that `invert` offers for both."""
    for name, method in METHODS.items():
        for kind in bound_to(method):
            others = [other.name for other in METHODS.values() if other is not method and kind in bound_to(other)]
            if others:
                yield name, others[0], kind


def bound_to(method):
    """The inversions that `invert` offers for a method."""
    return method.accepts if "inversion" in options_of(method.params) else (method.inversion,)


@pytest.fixture(scope="module")
def made_for(sd):
    """The first image, inverted for a method by an inversion; each result is computed once."""

    @cache
    def inverted(own, kind):
        eta = 0.0 if INVERSIONS.find(kind).deterministic else 1.0
        options = {"inversion": kind, "source_guidance_scale": 2.0, "eta": eta}
        known = options_of(METHODS.find(own).params)
        some = {option: value for option, value in options.items() if option in known}
        return sd.invert(IMAGES[0], SOURCE[0], method=own, steps=STEPS, **some)

    return inverted


@pytest.mark.parametrize(("name", "other", "kind"), list(bindings()))
def test_method_by_name_equals_method_of_the_inversion(made_for, name, other, kind):
    """With the defaults of the method, over an inversion that was made for another method.

    DiffuseIT repeats its steps many times by default; it has fewer repetitions over all inversions but one.
    """
    made = [made_for(own, kind) for own in (name, other)]
    few = OPTIONS[name] if name == "diffuseit" and kind != "ddim" else {}
    assert torch.equal(made[0].groups[0].inversion.x, made[1].groups[0].inversion.x)
    bound, by_name = made[0].edit(TARGET[0], **few), made[1].edit(TARGET[0], methods=[(name, few) if few else name])
    assert np.array_equal(bound.pixels[0], by_name.pixels[0])
    assert bound.recipes[0]["methods"] == by_name.recipes[0]["methods"]


def test_saved_inversion_can_be_edited_by_other_methods(sd, tmp_path):
    made = sd.invert(IMAGES[0], SOURCE[0], method="edit-friendly", steps=STEPS)
    made.save(tmp_path / "cat.safetensors")
    opened = sd.open(tmp_path / "cat.safetensors")
    options = {
        "methods": ["prompt-to-prompt", ("pix2pix-zero", {"cross_attention_guidance_amount": 1.0})],
        "mask_words": "cat",
    }
    from_file, at_once = (each.edit(TARGET[0], **options) for each in (opened, made))
    assert np.array_equal(from_file.pixels[0], at_once.pixels[0])
    plain = opened.edit(TARGET[0])
    assert not np.array_equal(from_file.pixels[0], plain.pixels[0])


STILL = [
    ("colour", {"amount": 0.0}),
    ("shift", {}),
    ("pullback", {"gamma": 0.0}),
    ("plug-and-play", {"feature_steps": 0.0, "attention_steps": 0.0}),
    ("edit-friendly", {}),
]


@pytest.mark.parametrize("still", STILL, ids=[name for name, _ in STILL])
def test_method_without_effect_does_not_change_another(inverted_by, still):
    inverted = inverted_by("edit-friendly", (0,))
    alone = inverted.edit(TARGET[0], methods=["prompt-to-prompt"], **RUN)
    for together in (["prompt-to-prompt", still], [still, "prompt-to-prompt"]):
        assert np.array_equal(inverted.edit(TARGET[0], methods=together, **RUN).pixels[0], alone.pixels[0])


@pytest.mark.parametrize("pair", [("plug-and-play", "colour"), ("pix2pix-zero", "colour")])
def test_order_of_independent_methods_does_not_matter(inverted_by, pair):
    inverted = inverted_by("edit-friendly", (0,))
    runs = [inverted.edit(TARGET[0], methods=named(names), **RUN).pixels[0] for names in (pair, pair[::-1])]
    assert np.array_equal(*runs)
    for name in pair:
        assert not np.array_equal(runs[0], inverted.edit(TARGET[0], methods=named([name]), **RUN).pixels[0])


def test_first_method_sets_default_skip_and_guidance_scale(inverted_by):
    inverted = inverted_by("edit-friendly", (0,))
    run = inverted.edit(TARGET[0], methods=["pullback", "plug-and-play"])
    assert run.report["parameters"]["guidance_scale"] == [1.0]
    assert {(each["skip"], each["guidance_scale"]) for each in run.recipes[0]["methods"]} == {(0, 1.0)}
    given = inverted.edit(TARGET[0], methods=["pullback", "plug-and-play"], **RUN)
    assert {(each["skip"], each["guidance_scale"]) for each in given.recipes[0]["methods"]} == {(1, 3.0)}


def test_plan_is_deterministic(sd):
    options = {"methods": "prompt-to-prompt", "steps": STEPS, "blend": "cat", **RUN}
    plan = sd.plan(IMAGES[0], SOURCE[0], TARGET[0], **options)
    first, second = (plan.run().result.pixels[0] for _ in range(2))
    assert np.array_equal(first, second)


def test_interleaved_runs_of_a_plan_are_independent(sd):
    options = {"methods": "prompt-to-prompt", "steps": STEPS, "blend": "cat", **RUN}
    plan = sd.plan(IMAGES[0], SOURCE[0], TARGET[0], **options)
    alone = plan.run().result.pixels[0]
    runs = plan.run(), plan.run()
    assert len(list(zip(*runs, strict=True))) == STEPS + STEPS - 1, "a step of one, then a step of the other"
    assert all(np.array_equal(run.result.pixels[0], alone) for run in runs)


def test_a_single_method_can_be_given_by_its_name(sd, inverted_by):
    inverted = inverted_by("edit-friendly", (0,))
    named, listed = (
        inverted.edit_steps(TARGET[0], methods="colour", amount=0.3, **RUN),
        inverted.edit_steps(TARGET[0], methods=[("colour", {"amount": 0.3})], **RUN),
    )
    assert np.array_equal(named.result.pixels[0], listed.result.pixels[0])
    assert named.result.report["parameters"]["methods"] == listed.result.report["parameters"]["methods"]
    named, listed = (sd.generate("red cat", methods=each, steps=2).recipes for each in ("objects", ["objects"]))
    assert named == listed
    assert [part["method"] for part in named[0]["methods"]] == ["objects"]


REFUSALS = [
    ({"methods": ["magic"]}, "no method 'magic'; choose from asyrp, attend-and-excite"),
    ({"methods": ["ddim"]}, "ddim edits inversions by ddim, not by edit-friendly"),
    ({"methods": ["prompt-to-prompt", "sdedit"]}, "sdedit edits inversions by sdedit, not by edit-friendly"),
    ({"methods": ["colour", "colour"]}, "colour is named twice"),
    ({"methods": ["colour", ("colour", {"amount": 0.2})]}, "colour is named twice"),
    ({"methods": [("prompt-to-prompt", {"amount": 0.2})]}, "edit by prompt-to-prompt has no option 'amount'"),
    ({"methods": [("prompt-to-prompt", {"steps": 3})]}, "steps: the number of steps was fixed at inversion"),
    ({"methods": "prompt-to-prompt", "amount": 0.2}, "edit by prompt-to-prompt has no option 'amount'"),
    ({"methods": ["prompt-to-prompt"], "cross_steps": 0.5}, "'cross_steps' belongs to a method"),
    ({"methods": [], "amount": 0.5}, "'amount' belongs to a method"),
    ({"methods": [("colour", {"amount": 11})]}, "amount must be between 0 and 10"),
    ({"methods": ["colour"], "skip": STEPS}, f"skip must be between 0 and {STEPS - 1}"),
    ({"methods": [], "skip": STEPS}, f"skip must be between 0 and {STEPS - 1}"),
    ({"methods": ["colour"], "guidance_scale": 101}, "guidance_scale must be between 0 and 100"),
    ({"methods": ["colour", ("prompt-to-prompt", {"blend": "tree"})]}, '"tree" of blend'),
    ({"methods": ["prompt-to-prompt"], "prompts": ""}, "target prompt is empty"),
    ({"shifts": [Own]}, "shifts must be objects of sfumato.core.shift.Shift"),
    ({"shifts": ["colour"]}, "shifts must be objects of sfumato.core.shift.Shift"),
]
ODD = [
    ({"methods": ["pullback", ("plug-and-play", {"guidance_scale": 5.0})]}, "guidance_scale"),
    ({"methods": [3]}, "3"),
    ({"methods": 3}, "3"),
    ({"methods": [("prompt-to-prompt",)]}, "prompt-to-prompt"),
    ({"methods": [("prompt-to-prompt", 3)]}, "prompt-to-prompt"),
    ({"methods": [("prompt-to-prompt", {"blend": "cat"}, 3)]}, "prompt-to-prompt"),
    ({"shifts": Own()}, "shifts"),
    ({"shifts": 3}, "shifts"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSALS + ODD)
def test_invalid_compositions_are_refused_in_one_line(sd, inverted_by, changes, message):
    inverted = inverted_by("edit-friendly", (0,))
    refused(sd, message, lambda: inverted.edit_steps(**{"prompts": TARGET[0], **changes}))


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.params.needs])
def test_method_without_its_options_is_noted(inverted_by, name):
    kind = METHODS.find(name).inversion
    missing = f"The method {name} had no effect without {' or '.join(METHODS.find(name).params.needs)}."

    def notes(options):
        return inverted_by(kind).edit(TARGET, methods=[(name, options)], **RUN).report["notes"]

    assert missing in notes({})
    assert missing not in notes(OPTIONS[name])
