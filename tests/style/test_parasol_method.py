"""The method parasol and the command `sfumato style`."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from sfumato.errors import BadInput
from sfumato.methods.parasol import ParasolParams
from sfumato.methods.weighted import parse_weighted, read_weighted, weighted_text
from tests import tiny
from tests.style.small import save_both


def test_the_method_edits_towards_the_style(api_model, options, style_image):
    picture = tiny.tiny_picture(32, 32)
    inverted = api_model.invert(picture, "red cat", method="parasol", steps=5)
    plain = inverted.edit("", style=style_image, **options)
    assert plain.report["network_evaluations"] == {"calls": 5, "samples": 15}
    stronger = inverted.edit("", style=style_image, style_scale=9.0, **options)
    own = inverted.edit("", style=style_image, style_scale=9.0, lam=5, **options)
    still = inverted.edit("", style_scale=9.0, **options)
    assert not np.array_equal(plain.pixels[0], stronger.pixels[0])
    assert np.array_equal(own.pixels[0], still.pixels[0]), "all steps have the style of the image itself"
    half = inverted.edit("", style=style_image, lam=2, **options)
    assert np.array_equal(half.pixels[0], plain.pixels[0]), "the default is two fifths of the steps"


def test_the_colours_of_the_style_are_matched(api_model, options, style_image):
    inverted = api_model.invert(tiny.tiny_picture(32, 32), "red cat", method="parasol", steps=3)
    edit = inverted.edit("", style=style_image, colour_match=True, residual=False, **options)
    wanted = np.asarray(Image.open(style_image).convert("RGB")).reshape(-1, 3).mean(0)
    assert np.abs(edit.pixels[0].reshape(-1, 3).mean(0) - wanted).max() < 12  # pixels are clipped to 0..255


def test_colours_of_several_styles_are_mixed_by_their_weights(tmp_path):
    paths, references = [str(tmp_path / name) for name in ("a.png", "b,c.png")], []
    for seed, path in enumerate(paths):
        tiny.tiny_picture(24, 24, seed=seed).save(path)
        pixels = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3) / 127.5 - 1
        references.append((pixels.mean(0), np.cov(pixels.T, bias=True)))
    mean, covariance = ((each[0] + 3 * each[1]) / 4 for each in zip(*references, strict=True))
    edited = 2 * torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) - 1
    for weights in ({paths[0]: 1, paths[1]: 3.0}, {paths[1]: 0.75, paths[0]: 0.25}):
        params = ParasolParams(parasol="x", style=weights, colour_match=True)
        found = params.finish(edited, edited)[0].reshape(3, -1).numpy()
        np.testing.assert_allclose(found.mean(1), mean, atol=1e-5)
        np.testing.assert_allclose(np.cov(found, bias=True), covariance, atol=1e-5)


def test_what_has_no_effect_is_noted(api_model, options):
    inverted = api_model.invert(tiny.tiny_picture(32, 32), "red cat", method="parasol", steps=3)
    options |= {"style_text": "flat"}
    assert inverted.edit("", **options).report["notes"] == []
    assert inverted.edit("red cat", **options).report["notes"] == []
    (note,) = inverted.edit("green dog", guidance_scale=3.0, **options).report["notes"]
    assert note.startswith("the target prompt and the guidance scale had no effect")
    assert inverted.edit("green dog", guidance_scale=3.0).report["notes"] == []
    made = api_model.generate("red cat", methods=[("parasol", options | {"content_text": "red", "lam": 0})], steps=2)
    assert made.report["notes"][0].startswith("the target prompt")


def test_a_path_may_contain_commas():
    weights = {"a,b.png": 2.0, 'c "d".png': 0.5, "e=f.png": 1.0, "g=2,h.png": 1.0}
    assert parse_weighted("style", weighted_text(weights)) == weights
    assert ParasolParams(parasol="x", style=weights).style_images == weights
    assert read_weighted("style", ["a,b.png", "e=f.png", "c.png=2"]) == {"a,b.png": 1, "e=f.png": 1, "c.png": 2}
    assert weighted_text({}) == ""
    with pytest.raises(BadInput, match=r"weight of a.png must be a number"):
        ParasolParams(style={"a.png": "much"})


def test_weights_mix_descriptors(api_model, options, describers, style_image, tmp_path):
    from sfumato.methods.parasol import mixed

    tiny.tiny_picture(24, 24, seed=8).save(tmp_path / "b.png")
    other = str(tmp_path / "b.png")
    one, two = (mixed(describers, "style", {path: 1.0}, "") for path in (style_image, other))
    torch.testing.assert_close(
        mixed(describers, "style", {style_image: 3.0, other: 1.0}, ""), F.normalize(3 * one + two)
    )
    text = torch.from_numpy(describers.texts("style", ["flat"]))
    torch.testing.assert_close(mixed(describers, "style", {other: 1.0}, "flat"), F.normalize(two + text))
    assert mixed(describers, "content", {}, "") is None
    assert parse_weighted("style", " a.png=2, b=c.png=0.5") == {"a.png": 2.0, "b=c.png": 0.5}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"lam": 6}, "lam must be between 0 and 5"),
        ({"style": "a.png=-1"}, "weights of at least 0"),
        ({"style": "a.png=0"}, "weights of style are all 0"),
        ({"style": "nosuch.png"}, "nosuch.png"),
        ({"style_text": "nosuchword"}, "trained with no word"),
        ({"parasol": ""}, "needs a PARASOL file"),
        ({"style": "", "colour_match": True}, "colour_match needs a style image"),
        ({"style_encoder": "OTHER"}, "another style encoder"),
    ],
)
def test_bad_input_is_refused(api_model, options, style_image, changes, sentence, tmp_path):
    if changes.get("style_encoder") == "OTHER":
        changes = {"style_encoder": str(save_both(tmp_path / "other", seed=9)[1])}
    inverted = api_model.invert(tiny.tiny_picture(32, 32), "red cat", method="parasol", steps=5)
    with api_model.network.counting() as count, pytest.raises(BadInput, match=sentence):
        inverted.edit("", **({"style": style_image} | options | changes))
    assert count.samples == 0


def test_the_command_is_the_method(sfumato_command, api_model, saved, encoders, style_image, tiny_folder):
    flags = ["--content-encoder", encoders[0], "--style-encoder", encoders[1], "--parasol", saved, "--steps", 3]
    flags += ["--model", tiny_folder("sd")]
    made = sfumato_command("style", "photo.png", style_image, "-o", "out.png", *flags, "--json")
    assert made.code == 0, made.err
    options = {"parasol": str(saved), "content_encoder": str(encoders[0]), "style_encoder": str(encoders[1])}
    inverted = api_model.invert("photo.png", "", method="parasol", steps=3)
    wanted = inverted.edit("", style=style_image, **options)
    assert np.array_equal(np.asarray(Image.open("out.png").convert("RGB")), wanted.pixels[0])
    Image.open(style_image).save("a,b=c.png")
    again = sfumato_command("style", "photo.png", "a,b=c.png", "-o", "out2.png", *flags, "--json")
    assert again.code == 0, again.err
    assert Path("out2.png").is_file()
    for words, sentence in (
        (["style", "photo.png", style_image, "-o", "x.png"], "give --parasol FILE"),
        (["style", "photo.png", "-o", "x.png", *flags], "give a style image"),
        (["style", "photo.png", style_image, "-o", "photo.png", *flags], "is an input"),
        (["style", "photo.png", "nosuch.png", "-o", "x.png", *flags], "nosuch.png"),
        (["style", "photo.png", style_image, "-o", "x.png", *flags, "--lam", 4], "lam must be between 0 and 3"),
    ):
        assert sentence in sfumato_command(*words).refused(), words


@pytest.mark.parametrize("other", ["prompt-to-prompt", "pix2pix-zero"])
def test_methods_that_need_the_tokens_of_a_prompt_are_refused(api_model, options, other):
    inverted = api_model.invert(tiny.tiny_picture(32, 32), "red cat", method="edit-friendly", steps=5)
    with api_model.network.counting() as count, pytest.raises(BadInput, match=f"{other} and parasol both replace"):
        inverted.edit("blue cat", methods=[other, ("parasol", options | {"style_text": "flat"})], skip=0)
    assert count.samples == 0
