"""Asyrp through the Python API and the command line: files, weights, edit intervals, cost, refusals."""

import json

import numpy as np
import pytest

from sfumato.cli import main
from sfumato.errors import BadInput
from sfumato.methods.asyrp import parse_deltas
from sfumato.options.inversions import EVERY
from tests.delta import delta_of
from tests.tiny import tiny_image

IMAGE = tiny_image(32, 32)
NAME, STEPS = "asyrp", 6
CELLS = (8, 8)
AMOUNT = 40.0
"""Large enough for the delta-h of a random network to change pixels."""


@pytest.fixture(scope="module")
def files(sd, tmp_path_factory):
    """Delta-h files of two attributes for runs of 6 steps; the second one has a higher t_edit."""
    folder = tmp_path_factory.mktemp("delta")
    delta_of(sd.network, CELLS, STEPS, seed=1).save(folder / "smile.safetensors")
    late = {"seed": 2, "t_edit": 600, "attribute": "red", "kind": "steps", "t_boost": 0}
    delta_of(sd.network, CELLS, STEPS, **late).save(folder / "red.safetensors")
    return {name: str(folder / f"{name}.safetensors") for name in ("smile", "red")}


@pytest.fixture(scope="module")
def inverted(sd):
    return sd.invert(IMAGE, "red cat", method=NAME, steps=STEPS)


def moved(inverted, delta="", **options):
    return inverted.edit(**{"delta": delta, **options}).pixels[0].astype(int)


def test_no_delta_h_equals_replay_under_source_prompt(sd, inverted):
    plain = sd.invert(IMAGE, "red cat", method="ddim", steps=STEPS).edit("red cat", guidance_scale=1.0)
    assert np.array_equal(moved(inverted), plain.pixels[0])
    assert np.array_equal(inverted.edit("blue dog").pixels[0], plain.pixels[0]), "the target prompt has no effect"


def test_amount_zero_is_bit_identical_to_no_delta_h(inverted, files):
    assert np.array_equal(moved(inverted, files["smile"], amount=0.0), moved(inverted))
    assert not np.array_equal(moved(inverted, files["smile"], amount=AMOUNT), moved(inverted))


def test_amount_is_equivalent_to_a_weight(inverted, files):
    by_amount = moved(inverted, files["smile"], amount=-AMOUNT)
    assert np.array_equal(by_amount, moved(inverted, f"{files['smile']}={-AMOUNT}"))
    assert not np.array_equal(by_amount, moved(inverted, files["smile"], amount=AMOUNT))


def test_two_attributes_share_one_extra_evaluation_per_step(inverted, files):
    both = f"{files['smile']}={AMOUNT},{files['red']}={-AMOUNT}"
    edit = inverted.edit(delta=both, t_boost=0)
    edited = sum(t >= 400 for t in inverted.groups[0].inversion.timesteps)
    assert edit.report["network_evaluations"] == {"calls": STEPS + edited, "samples": STEPS + edited}
    alone = [moved(inverted, f"{files[name]}={w}", t_boost=0) for name, w in (("smile", AMOUNT), ("red", -AMOUNT))]
    assert not any(np.array_equal(edit.pixels[0], each) for each in alone)
    swapped = moved(inverted, ",".join(reversed(both.split(","))), t_boost=0)
    assert abs(swapped - edit.pixels[0]).max() <= 1


def test_weight_zero_is_bit_identical_to_leaving_the_file_out(inverted, files):
    """t_boost and the lowest t_edit are those of the other files."""
    red, without = f"{files['red']}={AMOUNT}", f"{files['smile']}=0"
    assert np.array_equal(moved(inverted, f"{red},{without}"), moved(inverted, red))
    smile, without = f"{files['smile']}={AMOUNT}", f"{files['red']}=0"
    lower = {"t_edit": 450, "t_boost": 0}
    assert np.array_equal(moved(inverted, f"{smile},{without}", **lower), moved(inverted, smile, **lower))


def test_t_boost_of_the_file_can_be_disabled(inverted, files):
    smile = {"delta": files["smile"], "amount": AMOUNT}
    boosted = moved(inverted, **smile)
    assert np.array_equal(boosted, moved(inverted, **smile, t_boost=300))
    assert not np.array_equal(boosted, moved(inverted, **smile, t_boost=0))
    assert np.array_equal(moved(inverted, files["red"]), moved(inverted, files["red"], t_boost=0))


def test_t_edit_of_the_file_can_be_raised(inverted, files):
    smile = {"delta": files["smile"], "amount": AMOUNT, "t_boost": 0}
    assert np.array_equal(moved(inverted, **smile), moved(inverted, **smile, t_edit=400))
    assert not np.array_equal(moved(inverted, **smile), moved(inverted, **smile, t_edit=700))
    with pytest.raises(BadInput, match=r'"smile" was trained at timesteps from 400: t_edit must .* not 300'):
        inverted.edit_steps(delta=files["smile"], t_edit=300)


def test_weights_are_scaled_by_the_number_of_steps(sd, files):
    """The shift is scaled by (steps in training) / (steps of the run)."""
    plan = sd.plan(IMAGE, "red cat", methods=NAME, steps=2 * STEPS, delta=files["smile"], amount=3.0)
    assert plan.edit.batches[0].shifts[0].weights == [1.5]


@pytest.mark.parametrize("kind", EVERY)
def test_edit_with_every_inversion_and_another_method(sd, files, kind):
    eta = {} if kind in ("ddim", "regularised") else {"eta": 1.0}
    made = sd.invert(IMAGE, "red cat", method="pix2pix-zero", inversion=kind, steps=STEPS, **eta)
    smile = (NAME, {"delta": files["smile"], "amount": AMOUNT})
    still = made.edit(methods=[(NAME, {})], skip=0, guidance_scale=1.0)
    edit = made.edit(methods=[smile], skip=0, guidance_scale=1.0)
    assert not np.array_equal(edit.pixels[0], still.pixels[0])
    pair = made.edit("blue cat", methods=["prompt-to-prompt", smile], skip=0, guidance_scale=2.0)
    assert not np.array_equal(pair.pixels[0], edit.pixels[0])


def test_noise_maps_are_kept_unless_t_boost_is_given(sd, files):
    made = sd.invert(IMAGE, "red cat", method="edit-friendly", steps=STEPS)
    smile = {"delta": files["smile"], "amount": AMOUNT}
    edits = [
        made.edit(methods=[(NAME, smile | more)], skip=0).pixels[0] for more in ({}, {"t_boost": 0}, {"t_boost": 300})
    ]
    assert np.array_equal(edits[0], edits[1])
    assert not np.array_equal(edits[0], edits[2])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"delta": "nowhere.safetensors"}, "There is no file nowhere"),
        ({"amount": 2.0}, "amount belongs to a delta-h"),
        ({"t_edit": 500}, "t_edit belongs to a delta-h"),
        ({"t_boost": 0}, "t_boost belongs to a delta-h"),
        ({"delta": "a=1,a=2"}, "delta must be the file"),
        ({"delta": "a=much"}, "delta must be the file"),
        ({"delta": "a=101"}, "delta must be the file"),
        ({"delta": "a,,b"}, "delta must be the file"),
        ({"delta": "a=0,b=-0.0"}, "weights of delta are all 0"),
    ],
)
def test_invalid_options_are_refused_before_any_evaluation(sd, inverted, options, sentence):
    calls = sd.network.count.calls
    with pytest.raises(BadInput, match=sentence) as caught:
        inverted.edit_steps(**options)
    assert "\n" not in str(caught.value)
    assert sd.network.count.calls == calls


@pytest.mark.parametrize(
    ("options", "way"),
    [
        ({"t_edit": 999}, "lower t_edit"),
        ({"skip": STEPS - 1}, "skip fewer steps"),
        ({"amount": 0.0, "t_edit": 999}, ""),
    ],
)
def test_delta_h_that_is_added_in_no_step_is_refused(sd, inverted, files, options, way):
    calls = sd.network.count.calls
    if way:
        with pytest.raises(BadInput, match=rf"is added at timesteps from \d+, but the edit begins at \d+: {way}"):
            inverted.edit_steps(delta=files["smile"], **options)
    else:
        inverted.edit_steps(delta=files["smile"], **options)
    assert sd.network.count.calls == calls


def test_weights_are_parsed():
    assert parse_deltas("") == {}
    assert parse_deltas("a b.safetensors") == {"a b.safetensors": 1.0}
    assert parse_deltas("a.safetensors=1, b=c.safetensors=-0.5") == {"a.safetensors": 1.0, "b=c.safetensors": -0.5}


def test_a_delta_h_of_another_model_is_refused(models, files):
    other = models("sd2")
    calls = other.network.count.calls
    with pytest.raises(BadInput, match="trained for another model or precision"):
        other.plan(IMAGE, "red cat", methods=NAME, delta=files["smile"], steps=STEPS)
    assert other.network.count.calls == calls


def test_directions_commands_with_delta_h_files(files, capsys):
    assert main(["directions", "list", files["smile"], files["red"]]) == 0
    listed = capsys.readouterr().out
    assert "smile: face -> smiling face" in listed
    assert main(["directions", "show", files["red"], "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["kind"], found["attribute"], found["t_edit"], found["shape"]) == (
        "delta-h, steps",
        "red",
        600,
        [16, 4, 4],
    )
    assert main(["directions", "show", files["red"]]) == 0
    assert "mid_block" in capsys.readouterr().out
    assert main(["directions", "name", files["red"], "1=age"]) == 2
    assert "contains a delta-h" in capsys.readouterr().err
