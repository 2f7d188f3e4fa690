"""Prompt-to-Prompt and Plug-and-Play: inversions, words of the prompts, refusals, network evaluations."""

from types import SimpleNamespace

import numpy as np
import pytest
from diffusers import UNet2DConditionModel

from sfumato.errors import BadInput
from sfumato.methods.prompt_to_prompt import PromptToPromptParams, coarse
from sfumato.models.layout import grid
from sfumato.models.text import TextEncoder
from sfumato.options.inversions import EVERY
from tests.tiny import tiny_image

IMAGES = [tiny_image(32, 32), tiny_image(40, 24, seed=3)]
METHODS = ("prompt-to-prompt", "plug-and-play")
FREE = {
    "prompt-to-prompt": {"cross_steps": 0.0, "self_steps": 0.0},
    "plug-and-play": {"feature_steps": 0.0, "attention_steps": 0.0},
}


@pytest.fixture(params=METHODS)
def name(request):
    return request.param


@pytest.mark.parametrize("inversion", EVERY)
def test_edit_and_null_edit_with_every_inversion(sd, name, inversion):
    """A null edit reproduces the image; an edit differs from the image and from the edit without injection."""
    # DDIM is approximate: refined, and replayed over the last steps only, as random weights amplify its error
    options, skip = ({"steps": 40, "refine": 6}, 36) if inversion == "ddim" else ({"steps": 6, "exact": True}, 0)
    inverted = sd.invert(
        IMAGES, ["red cat", "blue dog"], method=name, inversion=inversion, source_guidance_scale=1.0, **options
    )
    null = inverted.edit(["red cat", "blue dog"], guidance_scale=1.0, skip=skip)
    for pixels, image in zip(null.pixels, IMAGES, strict=True):
        assert abs(pixels.astype(int) - np.asarray(image)).max() <= 1
    edited = inverted.edit(["red dog", "blue cat"], guidance_scale=5.0, skip=skip)
    without = inverted.edit(["red dog", "blue cat"], guidance_scale=5.0, skip=skip, **FREE[name])
    for a, b, image in zip(edited.pixels, without.pixels, IMAGES, strict=True):
        assert abs(a.astype(int) - b).mean() > 1
        assert abs(a.astype(int) - np.asarray(image)).mean() > 1


def test_no_injection_is_bit_identical_to_the_plain_edit(sd, name):
    options = {"steps": 6, "source_guidance_scale": 2.0, "exact": True}
    edit = {"skip": 1, "guidance_scale": 5.0}
    free = sd.invert(IMAGES, "red cat", method=name, **options).edit("red dog", **edit, **FREE[name])
    plain = sd.invert(IMAGES, "red cat", method="edit-friendly", **options).edit("red dog", **edit)
    assert all(np.array_equal(a, b) for a, b in zip(free.pixels, plain.pixels, strict=True))
    assert free.report["network_evaluations"] == plain.report["network_evaluations"]


def test_number_of_network_evaluations(sd):
    """Two rows per step, plus one source row in every step in which maps are injected or recorded for the blend.

    Up to four source rows with the same layers share a call: three with self-attention and three without; with the
    blend, two with self-attention, four without it and the remaining four for the blend only.
    """
    inverted = sd.invert(IMAGES[0], "red cat", steps=20, method="prompt-to-prompt")
    edit = inverted.edit("red dog", skip=10, cross_steps=0.6, self_steps=0.3)
    assert edit.report["network_evaluations"] == {"calls": 10 + 2, "samples": 20 + 6}
    added = inverted.edit("red dog", skip=10, blend="dog")
    assert added.report["network_evaluations"] == {"calls": 10 + 2, "samples": 20 + 6}, "no dog in the source"
    blended = inverted.edit("red dog", skip=10, blend="cat")
    assert blended.report["network_evaluations"] == {"calls": 10 + 3, "samples": 20 + 10}


def test_defaults_depend_on_the_inversion(sd, name, monkeypatch):
    params = sd.invert(IMAGES[0], "red cat", method=name, inversion="ddim", steps=3).params
    assert (params.eta, params.source_guidance_scale, params.skip, params.guidance_scale) == (0.0, 1.0, 0, 7.5)
    params = sd.invert(IMAGES[0], "red cat", method=name, steps=10).params
    assert (params.inversion, params.eta, params.skip, params.guidance_scale) == ("edit-friendly", 1.0, 1, 9.0)
    monkeypatch.setattr(sd.network, "settings", {name: {"guidance_scale": 4.0, "steps": 10}})
    assert sd.invert(IMAGES[0], "red cat", method=name).params.guidance_scale == 4.0
    tuned_for_another = sd.invert(IMAGES[0], "red cat", method=name, inversion="ddim", steps=3).params
    assert tuned_for_another.guidance_scale == 7.5


def test_opened_inversion_gives_the_same_edit(sd, name, tmp_path):
    inverted = sd.invert(IMAGES[0], "red cat", method=name, steps=4, inversion="ddim")
    inverted.save(tmp_path / "cat.safetensors")
    opened = sd.open(tmp_path / "cat.safetensors")
    assert opened.params == inverted.params
    assert np.array_equal(opened.edit("red dog").pixels[0], inverted.edit("red dog").pixels[0])


def test_one_image_with_several_prompts(sd, name):
    inverted = sd.invert(IMAGES[0], "red cat", method=name, steps=6)
    both = inverted.edit(["red dog", "blue star cat"], skip=1)
    alone = inverted.edit("blue star cat", skip=1)
    assert abs(both.pixels[1].astype(int) - alone.pixels[0]).max() <= 2
    assert not np.array_equal(*both.pixels)


BAD_INVERSIONS = [
    ({"inversion": "null-text"}, "inversion must be one of edit-friendly, ddim, native-ddpm"),
    ({"inversion": 3}, "inversion must be one of"),
    ({"inversion": ["ddim"]}, "inversion must be one of"),
    ({"inversion": "ddim", "eta": 0.5}, "eta must be 0 for"),
    ({"eta": 0}, "above 0 for the others"),
    ({"refine": 2}, "refine must be 0 for the inversion edit-friendly"),
]


@pytest.mark.parametrize(("options", "message"), BAD_INVERSIONS)
def test_bad_inversions_are_refused_before_any_evaluation(sd, name, options, message):
    calls = sd.network.count.calls
    with pytest.raises(BadInput, match=message):
        sd.invert_steps(IMAGES[0], "red cat", method=name, **options)
    assert sd.network.count.calls == calls


BAD_EDITS = [
    ({"reweight": "tree=2"}, '"tree" is not in the prompt "red dog": its words are "red", "dog"'),
    ({"reweight": "cat=2"}, '"cat" is not in the prompt'),
    ({"reweight": "dog"}, 'like "red=2,cat=0.5", not "dog"'),
    ({"reweight": "dog=-1"}, "at least 0"),
    ({"reweight": "dog=nan"}, "at least 0"),
    ({"reweight": "=2"}, "reweight must be words"),
    ({"reweight": 2}, "reweight must be any text"),
    ({"reweight": "dog=2,,red=1"}, "separated by commas"),
    ({"blend": ","}, "separated by commas"),
    ({"blend": "tree"}, 'source prompt are "red", "cat", those of the target prompt "red", "dog"'),
    ({"blend": "cat, dog, tree"}, '"tree" of blend'),
    ({"cross_steps": 1.1}, "cross_steps must be between 0 and 1"),
    ({"self_steps": -0.1}, "self_steps must be between 0 and 1"),
    ({"self_tokens": -1}, "self_tokens"),
    ({"skip": 4}, "skip must be between 0 and 3"),
    ({"prompts": "<|endoftext|>"}, 'target prompt "<|endoftext|>" has no words'),
]


@pytest.fixture(scope="module")
def inverted(sd):
    return sd.invert(IMAGES[0], "red cat", method="prompt-to-prompt", steps=4)


@pytest.mark.parametrize(("options", "message"), BAD_EDITS)
def test_bad_edits_are_refused_before_any_evaluation(sd, inverted, options, message):
    calls = sd.network.count.calls
    with pytest.raises(BadInput, match=message):
        inverted.edit_steps(**{"prompts": "red dog", **options})
    given = {"steps": 4, **options}
    with pytest.raises(BadInput, match=message):
        sd.plan(IMAGES[0], "red cat", given.pop("prompts", "red dog"), methods="prompt-to-prompt", **given)
    assert sd.network.count.calls == calls


def test_options_of_a_part_that_is_off_are_noted(inverted):
    def notes(**options):
        return inverted.edit("red dog", **options).report["notes"]

    off = {"blend_threshold": 0.9, "blend_start": 0.5, "blend_filter": "nearest"}
    for name, value in off.items():
        assert f"{name} had no effect without blend." in notes(**{name: value})
    assert not any("had no effect" in note for note in notes(blend="cat", **off))
    assert "self_tokens had no effect without self_steps." in notes(self_tokens=4096, self_steps=0.0)
    assert "swap had no effect without cross_steps." in notes(swap=False, cross_steps=0.0)
    assert not any("had no effect" in note for note in notes(swap=False, self_tokens=4096, blend_start=0.2))


def test_words_may_be_phrases_in_any_case(sd, inverted):
    options = {"reweight": "BLUE DOG=2", "blend": "Red Cat, blue"}
    sd.plan(IMAGES[0], "red cat", "Blue dog", methods="prompt-to-prompt", **options)
    inverted.edit("Blue dog", reweight="BLUE DOG=2", blend="Red Cat, blue", skip=1)


def test_source_prompt_without_words_is_refused(sd):
    for prompt, message in {"": "source prompt is empty", " ": "is empty", "<|startoftext|>": "has no words"}.items():
        with pytest.raises(BadInput, match=message):
            sd.invert_steps(IMAGES[0], prompt, method="prompt-to-prompt")


def test_too_small_self_tokens_is_refused_before_any_evaluation(sd, inverted):
    calls = sd.network.count.calls
    with pytest.raises(BadInput, match="allow at least 16"):
        inverted.edit("red dog", self_tokens=3)
    assert sd.network.count.calls == calls


@pytest.mark.parametrize(
    ("levels", "size", "largest"),
    [
        ("+++-", (64, 64), (16, 16)),  # Stable Diffusion at 512 pixels, as in the authors' code
        ("+++-", (64, 96), (16, 24)),
        ("-++", (128, 128), (32, 32)),  # SDXL at 1024 pixels
        ("+++", (16, 16), (16, 16)),  # at least 256 cells
    ],
)
def test_default_resolution_of_injected_self_attention(levels, size, largest):
    unet = UNet2DConditionModel(
        block_out_channels=(8,) * len(levels),
        down_block_types=["CrossAttnDownBlock2D" if level == "+" else "DownBlock2D" for level in levels],
        up_block_types=["CrossAttnUpBlock2D" if level == "+" else "UpBlock2D" for level in reversed(levels)],
        layers_per_block=1,
        norm_num_groups=2,
        attention_head_dim=2,
        cross_attention_dim=8,
    )
    found = {grid(unet, name, size) for name in coarse(SimpleNamespace(unet=unet), size, PromptToPromptParams())}
    assert max(found) == largest


def test_prompt_to_prompt_without_text_encoder_is_refused(models):
    ddpm = models("ddpm")
    with pytest.raises(BadInput, match="no text input, which the method needs"):
        ddpm.invert_steps(IMAGES[0], method="prompt-to-prompt")
    inverted = ddpm.invert(IMAGES[0], method="plug-and-play", steps=4)
    assert inverted.edit().pixels[0].shape == (32, 32, 3)


def test_text_encoders_with_different_word_splits_are_refused(models, monkeypatch):
    sdxl = models("sdxl")
    inverted = sdxl.invert(IMAGES[0], "red kitten", method="prompt-to-prompt", steps=3)
    inverted.edit("red dog")
    second, split = sdxl.network.text_encoders[1], TextEncoder.read
    letters = "_".join
    monkeypatch.setattr(
        TextEncoder, "read", lambda encoder, text: split(encoder, letters(text) if encoder is second else text)
    )
    calls = sdxl.network.count.calls
    with pytest.raises(BadInput, match="split prompts differently"):
        inverted.edit("red dog")
    assert sdxl.network.count.calls == calls
