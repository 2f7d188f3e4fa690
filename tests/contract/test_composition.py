"""Methods together: any pair along any inversion is composed, or refused in one sentence before any evaluation."""

from itertools import combinations, islice

import numpy as np
import pytest
import torch

from sfumato.inversion.registry import INVERSIONS
from sfumato.methods.params import options_of
from sfumato.methods.registry import METHODS
from tests.contract.composed import PICTURES, RUN, SOURCE, STEPS, TARGET, Own, refused
from tests.delta import delta_of
from tests.style.small import save_parasol

OPTIONS = {
    "attend-and-excite": {"objects": "cat", "thresholds": ""},
    "colour": {"amount": 0.3},
    "diffuseit": {"resample": 2, "crops": 1},
    "objects": {"objects": "cat"},
    "pix2pix-zero": {"cross_attention_guidance_amount": 1.0},
    "prompt-to-prompt": {"blend": "cat"},
    "pullback": {"gamma": 0.5, "boost": 0.5},
    "self-guidance": {"move": "cat: 0.2, 0"},
    "shift": {"right": 1},
}
"""Options with which an edit of so few steps and so small a network shows what the method does.

Those of asyrp and parasol are files, which `trained` adds.
"""
WORDS = ("attend-and-excite", "objects", "pix2pix-zero", "prompt-to-prompt", "self-guidance")
PLACES = ("colour", "pix2pix-zero", "plug-and-play", "prompt-to-prompt")
EXCLUSIVE = [
    {"prompt-to-prompt", "plug-and-play"},
    *({"parasol", name} for name in WORDS),
    *({"shift", name} for name in PLACES),
]
"""Both replace queries and keys of the same self-attention; one replaces the tokens whose maps the other one reads; one
moves what the other one reads at its place in the source."""
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
"""An inversion, and three methods."""


@pytest.fixture(scope="module", autouse=True)
def trained(sd, tmp_path_factory):
    """What asyrp and parasol are trained to do, as files."""
    folder = tmp_path_factory.mktemp("trained")
    delta_of(sd.network, (8, 8), STEPS, factor=20.0).save(folder / "delta_h.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(OPTIONS, "asyrp", {"delta": str(folder / "delta_h.safetensors"), "amount": 2.0})
        patch.setitem(OPTIONS, "parasol", {"style_text": "flat", **save_parasol(folder / "parasol", sd.network)})
        yield


def named(names):
    """Methods with options that show."""
    return [(name, OPTIONS.get(name, {})) for name in names]


def edited(inverted, names, pictures=(0, 1)):
    """The result and the latents after every step; it is decoded from the last ones."""
    run = steps_of(inverted, names, pictures)
    latents = [progress.state.x_prev for progress in run]
    return run.result, latents


def edited_again(inverted, names, pictures, steps):
    """The latents after every step: nothing is decoded or measured."""
    run = steps_of(inverted, names, pictures)
    latents = [progress.state.x_prev for progress in islice(run, steps)]
    run.close()
    return latents


def steps_of(inverted, names, pictures):
    return inverted.edit_steps([TARGET[n] for n in pictures], methods=named(names), **RUN)


def check_composed(inverted_by, kind, names):
    """Finite, another edit than without the methods, the same again and, but for rounding, alone."""
    result, (*_, together) = edited(inverted_by(kind), names)
    assert torch.isfinite(together).all()
    assert [each["method"] for each in result.recipes[0]["methods"]] == list(names)
    alone, latents = edited(inverted_by(kind, (1,)), names, (1,))
    again = edited_again(inverted_by(kind, (1,)), names, (1,), len(latents))
    assert all(torch.equal(*each) for each in zip(latents, again, strict=True))
    by_itself = latents[-1]
    assert (together[1:] - by_itself).abs().max() <= 1e-2 * by_itself.abs().max()
    assert abs(result.pixels[1].astype(int) - alone.pixels[0]).max() <= 2


@pytest.mark.parametrize("name", ["asyrp", "attend-and-excite", "objects", "parasol", "self-guidance"])
def test_methods_that_do_nothing_without_options_act_in_the_pairs(inverted_by, name):
    runs = [
        inverted_by("edit-friendly", (0,)).edit_steps(TARGET[0], methods=[each], **RUN)
        for each in (name, *named([name]))
    ]
    first, second = (next(run).state.x_prev for run in runs)
    for run in runs:
        run.close()
    assert not torch.equal(first, second)


@pytest.mark.parametrize("names", PAIRS, ids="+".join)
@pytest.mark.parametrize("kind", KINDS)
def test_every_pair_is_composed_or_refused(sd, inverted_by, kind, names):
    strangers = [name for name in names if kind not in METHODS.find(name).accepts]
    if strangers:
        message = f"{strangers[0]} edits inversions by .*, not by {kind}"
    elif set(names) in EXCLUSIVE:
        message = "replace"
    else:
        check_composed(inverted_by, kind, names)
        return
    inverted = inverted_by(kind)
    refused(sd, message, lambda: inverted.edit_steps(TARGET, methods=named(names), **RUN))


@pytest.mark.parametrize(("kind", *"abc"), TRIPLES, ids=["+".join(each) for each in TRIPLES])
def test_triples_are_composed(inverted_by, kind, a, b, c):
    check_composed(inverted_by, kind, (a, b, c))


def bindings():
    """Methods along the inversions that a picture can be inverted by for them, and another method of the same."""
    for name, method in METHODS.items():
        for kind in bound_to(method):
            others = [other.name for other in METHODS.values() if other is not method and kind in bound_to(other)]
            if others:
                yield name, others[0], kind


def bound_to(method):
    """The inversions that a picture can be inverted by for a method."""
    return method.accepts if "inversion" in options_of(method.params) else (method.inversion,)


@pytest.mark.parametrize(("name", "other", "kind"), list(bindings()))
def test_one_method_by_name_is_the_method_bound_at_the_inversion(sd, name, other, kind):
    """With its defaults, over an inversion that was made for another method."""
    made = []
    for own in (name, other):
        eta = 0.0 if INVERSIONS.find(kind).deterministic else 1.0
        options = {"inversion": kind, "source_guidance_scale": 2.0, "eta": eta}
        known = options_of(METHODS.find(own).params)
        some = {option: value for option, value in options.items() if option in known}
        made.append(sd.invert(PICTURES[0], SOURCE[0], method=own, steps=STEPS, **some))
    assert torch.equal(made[0].groups[0].inversion.x, made[1].groups[0].inversion.x)
    bound, by_name = made[0].edit(TARGET[0]), made[1].edit(TARGET[0], methods=[name])
    assert np.array_equal(bound.pixels[0], by_name.pixels[0])
    assert bound.recipes[0]["methods"] == by_name.recipes[0]["methods"]


def test_an_inversion_made_for_one_method_is_edited_by_another_from_its_file(sd, tmp_path):
    made = sd.invert(PICTURES[0], SOURCE[0], method="edit-friendly", steps=STEPS)
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
def test_a_method_that_moves_nothing_changes_nothing_of_another(inverted_by, still):
    inverted = inverted_by("edit-friendly", (0,))
    alone = inverted.edit(TARGET[0], methods=["prompt-to-prompt"], **RUN)
    for together in (["prompt-to-prompt", still], [still, "prompt-to-prompt"]):
        assert np.array_equal(inverted.edit(TARGET[0], methods=together, **RUN).pixels[0], alone.pixels[0])


@pytest.mark.parametrize("pair", [("plug-and-play", "colour"), ("pix2pix-zero", "colour")])
def test_methods_that_move_different_handles_come_in_any_order(inverted_by, pair):
    inverted = inverted_by("edit-friendly", (0,))
    runs = [inverted.edit(TARGET[0], methods=named(names), **RUN).pixels[0] for names in (pair, pair[::-1])]
    assert np.array_equal(*runs)
    for name in pair:
        assert not np.array_equal(runs[0], inverted.edit(TARGET[0], methods=named([name]), **RUN).pixels[0])


def test_the_first_method_says_what_belongs_to_the_run(inverted_by):
    inverted = inverted_by("edit-friendly", (0,))
    run = inverted.edit(TARGET[0], methods=["pullback", "plug-and-play"])
    assert run.report["parameters"]["guidance_scale"] == [1.0]
    assert {(each["skip"], each["guidance_scale"]) for each in run.recipes[0]["methods"]} == {(0, 1.0)}
    given = inverted.edit(TARGET[0], methods=["pullback", "plug-and-play"], **RUN)
    assert {(each["skip"], each["guidance_scale"]) for each in given.recipes[0]["methods"]} == {(1, 3.0)}


def test_a_plan_gives_the_same_every_time_it_is_run(sd):
    options = {"methods": "prompt-to-prompt", "steps": STEPS, "blend": "cat", **RUN}
    plan = sd.plan(PICTURES[0], SOURCE[0], TARGET[0], **options)
    first, second = (plan.run().result.pixels[0] for _ in range(2))
    assert np.array_equal(first, second)


def test_runs_of_a_plan_are_independent_of_one_another(sd):
    options = {"methods": "prompt-to-prompt", "steps": STEPS, "blend": "cat", **RUN}
    plan = sd.plan(PICTURES[0], SOURCE[0], TARGET[0], **options)
    alone = plan.run().result.pixels[0]
    runs = plan.run(), plan.run()
    assert len(list(zip(*runs, strict=True))) == STEPS + STEPS - 1, "a step of one, then a step of the other"
    assert all(np.array_equal(run.result.pixels[0], alone) for run in runs)


REFUSALS = [
    ({"methods": ["magic"]}, "no method 'magic'; choose from asyrp, attend-and-excite"),
    ({"methods": ["ddim"]}, "ddim edits inversions by ddim, not by edit-friendly"),
    ({"methods": ["prompt-to-prompt", "sdedit"]}, "sdedit edits inversions by sdedit, not by edit-friendly"),
    ({"methods": ["colour", "colour"]}, "colour is named twice"),
    ({"methods": ["colour", ("colour", {"amount": 0.2})]}, "colour is named twice"),
    ({"methods": [("prompt-to-prompt", {"amount": 0.2})]}, "edit by prompt-to-prompt has no option 'amount'"),
    ({"methods": [("prompt-to-prompt", {"steps": 3})]}, "no option 'steps'"),
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
def test_what_cannot_be_composed_is_one_sentence(sd, inverted_by, changes, message):
    inverted = inverted_by("edit-friendly", (0,))
    refused(sd, message, lambda: inverted.edit_steps(**{"prompts": TARGET[0], **changes}))
