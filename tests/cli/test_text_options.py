"""Text options, choices and switches of a method as flags."""

import pytest

from sfumato.cli.commands import parse
from sfumato.cli.flags import given_options
from sfumato.cli.option_checks import check_options, chosen_params
from sfumato.errors import BadInput
from sfumato.methods.prompt_to_prompt import PromptToPromptParams
from sfumato.options.params import options_of

EDIT = ["edit", "in.png", "--to", "dog", "-o", "out.png", "--method", "prompt-to-prompt"]
OPTIONS = options_of(PromptToPromptParams)


def given(*words):
    _, arguments = parse([*EDIT, *words])
    return given_options(arguments, OPTIONS)


def test_flags_are_parsed_into_options():
    assert given("--inversion", "ddim", "--reweight", "red dog=2,cat=0", "--no-swap", "--exact", "--steps=9") == {
        "inversion": "ddim",
        "reweight": "red dog=2,cat=0",
        "swap": False,
        "exact": True,
        "steps": 9,
    }
    assert given() == {}
    assert given("--swap") == {"swap": True}


def test_choices_are_in_the_help(capsys):
    with pytest.raises(SystemExit):
        parse([*EDIT, "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "--inversion TEXT name of the inversion; one of edit-friendly, ddim, native-ddpm" in shown
    assert "--swap, --no-swap" in shown
    assert 'words of either prompt outside whose regions the source is preserved: "cat,dog"' in shown


def test_invalid_option_values_are_rejected():
    check_options(chosen_params(PromptToPromptParams, given("--inversion", "ddim", "--refine", "3")))
    for words, message in {
        ("--inversion", "null"): "inversion must be one of",
        ("--inversion", "ddim", "--eta", "1"): "eta must be 0",
        ("--reweight", "dog"): "reweight must be words with weights",
        ("--blend", ","): "separated by commas",
        ("--self-tokens", "99999"): "self_tokens must be an integer|self_tokens must be between",
    }.items():
        with pytest.raises(BadInput, match=message):
            check_options(chosen_params(PromptToPromptParams, given(*words)))
