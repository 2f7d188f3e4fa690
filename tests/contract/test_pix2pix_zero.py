"""pix2pix-zero through the Python API: inversions, ways to give a direction, refusals, network evaluations."""

import numpy as np
import pytest

import sfumato
from sfumato.errors import BadInput
from sfumato.options.inversions import EVERY
from sfumato.shifts.banks import templated
from sfumato.shifts.text_direction import text_direction
from tests.tiny import tiny_image

IMAGE = tiny_image(32, 24)
NAME = "pix2pix-zero"


@pytest.fixture(scope="module")
def inverted(sd):
    return sd.invert(IMAGE, "red cat", method=NAME, steps=4)


@pytest.mark.parametrize("inversion", EVERY)
def test_guidance_changes_the_edit_with_every_inversion(sd, inversion):
    inverted = sd.invert(IMAGE, "red cat", method=NAME, inversion=inversion, steps=4)
    assert inverted.params.eta == (0 if inversion in ("ddim", "regularised") else 1)
    led, free = (inverted.edit("red dog", cross_attention_guidance_amount=amount, skip=0) for amount in (30.0, 0.0))
    assert not np.array_equal(led.pixels[0], free.pixels[0])
    # one call of four rows for the source at all steps; one row with gradient and one guidance pair per step
    assert led.report["network_evaluations"] == {"calls": 1 + 4 + 4, "samples": 4 + 4 + 8}
    assert free.report["network_evaluations"] == {"calls": 4, "samples": 8}


def test_all_ways_to_give_a_direction_are_equivalent(sd, inverted, tmp_path):
    by_prompts = inverted.edit("red dog")
    for word in ("cat", "dog"):
        (tmp_path / f"{word}.txt").write_text("\n".join(templated(word)))
    found = text_direction(sd.network, templated("cat"), templated("dog"))
    found.save(tmp_path / "cat2dog.safetensors")
    for options in (
        {"source_word": "cat", "target_word": "dog"},
        {"source_bank": str(tmp_path / "cat.txt"), "target_bank": str(tmp_path / "dog.txt")},
        {"direction_file": str(tmp_path / "cat2dog.safetensors")},
    ):
        assert np.array_equal(inverted.edit("anything", **options).pixels[0], by_prompts.pixels[0])
    assert not np.array_equal(inverted.edit("red dog", scale=0.0).pixels[0], by_prompts.pixels[0])


def test_several_target_prompts_in_one_edit(inverted):
    both = inverted.edit(["red dog", "blue cat"])
    alone = inverted.edit("blue cat")
    assert abs(both.pixels[1].astype(int) - alone.pixels[0]).max() <= 2
    assert not np.array_equal(*both.pixels)


def test_directions_are_computed_once_for_all_batches(sd, monkeypatch):
    found = []

    def counted(network, source, target):
        found.append(source)
        return text_direction(network, source, target)

    monkeypatch.setattr("sfumato.shifts.text_direction.text_direction", counted)
    inverted = sd.invert([IMAGE] * 3, "red cat", method=NAME, steps=2, batch=1)
    inverted.edit_steps(["red dog", "red tree", "red dog"])
    assert len(found) == 2


def test_official_compat_gives_another_inversion(sd, inverted):
    official = sd.invert(IMAGE, "red cat", method=NAME, steps=4, compat="official")
    ours = inverted.groups[0].inversion
    assert not np.array_equal(official.groups[0].inversion.x[0], ours.x[0])
    plain = official.edit("red dog", cross_attention_guidance_amount=0.0)
    assert not np.array_equal(
        official.edit("red dog", cross_attention_guidance_amount=1000.0).pixels[0], plain.pixels[0]
    )


def test_a_direction_of_another_model_is_refused(models, inverted, tmp_path):
    other = text_direction(models("sd2").network, templated("cat"), templated("dog"))
    other.save(tmp_path / "other.safetensors")
    with pytest.raises(BadInput, match="another model"):
        inverted.edit("red dog", direction_file=str(tmp_path / "other.safetensors"))


def test_a_direction_of_another_number_of_tokens_is_refused(sd, tiny_sd_folder, tmp_path):
    path = tmp_path / "cat2dog.safetensors"
    text_direction(sd.network, templated("cat"), templated("dog")).save(path)
    longer = sfumato.load(str(tiny_sd_folder), prompt_chunks=2)
    with pytest.raises(BadInput, match="77 tokens and the prompts have 154: compute it with the same prompt_chunks"):
        longer.plan(IMAGE, "red cat", methods=NAME, steps=4, direction_file=str(path))
    assert longer.network.count.calls == 0


def test_bad_options_are_refused_before_any_evaluation(sd, inverted, tmp_path):
    (tmp_path / "one.txt").write_text("a cat\n")
    bank = str(tmp_path / "one.txt")
    calls = sd.network.count.calls
    for options, words in (
        ({"source_word": "cat"}, "source_word and target_word together"),
        ({"target_bank": bank}, "source_bank and target_bank together"),
        ({"source_bank": bank, "target_bank": bank}, "needs at least 2 sentences"),
        ({"source_word": "a", "target_word": "b", "direction_file": bank}, "direction once"),
        ({"direction_file": str(tmp_path / "none")}, "There is no file"),
    ):
        with pytest.raises(BadInput, match=words):
            inverted.edit_steps("red dog", **options)
    for options, words in (
        ({"eta": 0.5}, "eta must be 0"),
        ({"inversion": "edit-friendly", "eta": 0.0}, "above 0 for the others"),
        ({"refine": 2}, "refine must be 0 for the inversion regularised"),
    ):
        with pytest.raises(BadInput, match=words):
            sd.invert_steps(IMAGE, "red cat", method=NAME, **options)
    assert sd.network.count.calls == calls
