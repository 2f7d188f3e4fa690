"""`sfumato edit --auto`: the least change that follows the target prompt well enough."""

import pytest

import sfumato as library
from sfumato.api.auto import SKIPPED, STRENGTHS, choose
from sfumato.errors import BadInput
from tests.tiny import tiny_picture

WORDS = ("photo.png", "--from", "red apple", "--to", "green apple", "-o", "out.png", "--steps", 10)


@pytest.fixture
def inverted(tiny_sd_folder):
    return library.load(str(tiny_sd_folder)).invert(tiny_picture(32, 32), "red cat", steps=10)


def test_the_first_level_that_is_good_enough_ends_the_search(inverted):
    easy, hard = (choose(inverted, "green dog", adherence=wanted) for wanted in (-0.99, 0.99))
    assert easy.reached
    assert easy.tried == len(STRENGTHS)
    assert easy.trial.options["skip"] == round(SKIPPED[0] * 10)
    assert not hard.reached
    assert hard.tried == len(STRENGTHS) * len(SKIPPED)
    smallest = choose(inverted, "green dog", adherence=-0.99, skip=3)
    assert set(smallest.trial.options) == {"strength"}


def test_by_default_the_edit_shall_fit_as_well_as_the_source_did(inverted):
    choice = choose(inverted, "green dog", skip=2)
    assert choice.tried == len(STRENGTHS)
    assert choice.reached == (choice.trial.scores["clip"] >= choice.wanted)


def test_only_what_can_be_chosen(inverted, tiny_ddpm_folder):
    with pytest.raises(BadInput, match="nothing left to choose"):
        choose(inverted, "green dog", skip=2, strength=3.0)
    with pytest.raises(BadInput, match="target prompt"):
        choose(inverted, " ")
    with pytest.raises(BadInput, match='"star" of mask_words'):
        choose(inverted, "green dog", mask_words="star")
    with pytest.raises(BadInput, match="between -1 and 1"):
        choose(inverted, "green dog", adherence=3.0)
    blind = library.load(str(tiny_ddpm_folder)).invert(tiny_picture(32, 32), steps=4)
    with pytest.raises(BadInput, match="needs a model with text"):
        choose(blind, "")


def test_levels_that_skip_a_window_of_the_method_are_left_out(tiny_sd_folder):
    model = library.load(str(tiny_sd_folder))
    inverted = model.invert(tiny_picture(32, 32), "red cat", method="colour", steps=10)
    high = choose(inverted, "red cat", adherence=-0.99, strength=1.0, first=700, last=999)  # 901, 801, 701
    assert high.trial.options["skip"] == 2


def test_on_the_command_line(sfumato, tiny_sd_folder):
    run = sfumato("edit", *WORDS, "--model", tiny_sd_folder, "--auto", "-0.9", "--json")
    assert run.code == 0, run.err
    assert run.json["parameters"]["skip"] == 8
    assert any("auto: skip 8" in note for note in run.json["notes"])
    assert "reaches the wanted adherence -0.90" in run.err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--auto", "7"), "between -1 and 1"),
        (("--auto", "--seeds", "2"), "one --seed"),
        (("--auto", "--skip", "2", "--strength", "3"), "nothing left to choose"),
    ],
)
def test_refused_before_any_work(sfumato, words, sentence):
    assert sentence in sfumato("edit", *WORDS, *words).refused()
