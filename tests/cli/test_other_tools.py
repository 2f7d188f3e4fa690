"""Flags of other tools are answered with the flag to use, or with the reason why there is none."""

import pytest

from sfumato.cli.commands import parse
from sfumato.cli.other_tools import FLAGS, NONE
from sfumato.errors import BadInput
from sfumato.suggestions import suggestion

EDIT, GENERATE, INVERT = ("edit", "photo.png"), ("generate", "red"), ("invert", "photo.png")
SKIP = "use --skip N, the noisiest steps that are left out"
ANSWERS = {
    (EDIT, "--clip-skip"): "no equivalent here: prompts are encoded as in diffusers",
    (EDIT, "--vae"): "no equivalent here: the autoencoder is that of the model",
    (EDIT, "--denoise"): SKIP,
    (EDIT, "--denoising_strength=0.5"): SKIP,
    (EDIT, "--source-prompt"): "use --from",
    (EDIT, "--target-prompt"): "use --to",
    (EDIT, "--prompt"): "use --to",
    (EDIT, "--text"): "use --to",
    (EDIT, "--negative"): "use --negative-prompt",
    (EDIT, "--half"): "use --dtype fp16",
    (EDIT, "--fp16"): "use --dtype fp16",
    (EDIT, "--cfg"): "use --guidance",
    (EDIT, "--cfg-scale"): "use --guidance",
    (EDIT, "--sampler"): "there are no other samplers",
    (EDIT, "--scheduler"): "there are no other samplers",
    (EDIT, "--width"): "use --resolution: results have the size of the image",
    (EDIT, "--size"): "use --resolution: results have the size of the image",
    (EDIT, "--gpu"): "use --device cuda",
    (EDIT, "--tiling"): "no equivalent here",
    (GENERATE, "--clip-skip"): "no equivalent here",
    (GENERATE, "--denoise"): f"to change an image, use `sfumato edit` with {SKIP[4:]}",
    (GENERATE, "--source-prompt"): "to change an image, use `sfumato edit` with --from",
    (GENERATE, "--init-image"): "to change an image, use `sfumato edit` with IMAGE",
    (GENERATE, "--target-prompt"): "use TEXT, the first argument",
    (GENERATE, "--prompt"): "use TEXT, the first argument",
    (GENERATE, "--negative"): "use --negative-prompt",
    (GENERATE, "--vae"): "the autoencoder is that of the model",
    (GENERATE, "--half"): "use --dtype fp16",
    (GENERATE, "--cfg"): "use --guidance",
    (GENERATE, "--sampler"): "use --eta (1 is DDPM, 0 is DDIM",
    (GENERATE, "--height"): "use --size WxH",
    (GENERATE, "--output-dir"): "use --out ",
    (INVERT, "--denoise"): "to change an image, use `sfumato edit` with --skip",
}


def message(words, flag):
    with pytest.raises(BadInput) as raised:
        parse([*words, "-o", "out.png", flag])
    return str(raised.value)


@pytest.mark.parametrize(("words", "flag"), ANSWERS, ids=lambda each: each if isinstance(each, str) else each[0])
def test_a_flag_of_another_tool_is_answered_with_ours(words, flag):
    assert ANSWERS[words, flag] in message(words, flag)


@pytest.mark.parametrize("words", [EDIT, GENERATE])
def test_every_known_flag_of_other_tools_is_answered(words):
    """None of them is a flag of the command itself, except --size of `generate`, or gets a suggestion by spelling."""
    for flag in {*FLAGS, *NONE} - ({"--size"} if words == GENERATE else set()):
        found = message(words, flag)
        assert any(part in found for part in ("; use --", "first argument", "no equivalent", "use `sfumato edit`")), (
            found
        )


def test_dashes_do_not_make_flags_similar():
    known = ("--out", "--clip", "--steps", "--eta")
    for flag in ("--gpu", "--cpu", "--number", "--vae"):
        assert "did you mean" not in suggestion(flag, known)
    assert suggestion("--stepz", known) == "; did you mean '--steps'?"
    assert suggestion("skp", ["skip"]) == "; did you mean 'skip'?"
