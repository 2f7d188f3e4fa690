"""The method parasol and the command `sfumato style`."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from sfumato.api.sweep import sweep
from sfumato.errors import BadInput
from sfumato.images import read_image, to_tensor
from sfumato.images.colour_match import match_colours
from sfumato.metrics import Evaluator
from sfumato.options.parasol import ParasolParams
from sfumato.options.weighted import parse_weighted, read_weighted, weighted_text
from sfumato.style.tokens import Parasol
from tests import tiny
from tests.style.small import save_both


def test_style_scale_and_lam_change_the_edit(api_model, options, style_image):
    image = tiny.tiny_image(32, 32)
    inverted = api_model.invert(image, "red cat", method="parasol", steps=5)
    plain = inverted.edit("", style=style_image, **options)
    assert plain.report["network_evaluations"] == {"calls": 5, "samples": 15}
    stronger = inverted.edit("", style=style_image, style_scale=9.0, **options)
    own = inverted.edit("", style=style_image, style_scale=9.0, lam=5, **options)
    still = inverted.edit("", style_scale=9.0, **options)
    assert not np.array_equal(plain.pixels[0], stronger.pixels[0])
    assert np.array_equal(own.pixels[0], still.pixels[0]), "all steps have the style of the image itself"
    half = inverted.edit("", style=style_image, lam=2, **options)
    assert np.array_equal(half.pixels[0], plain.pixels[0]), "the default is two fifths of the steps"


def test_negative_prompt_without_effect_is_refused(api_model, options):
    inverted = api_model.invert(tiny.tiny_image(32, 32), "red cat", method="parasol", steps=2)
    with pytest.raises(BadInput, match="at any scale with a method that replaces the guidance"):
        inverted.edit("", style_text="flat", negative_prompt="blue", guidance_scale=4.0, **options)
    both = [("parasol", options | {"style_text": "flat", "content_text": "red", "lam": 0})]
    with pytest.raises(BadInput, match="at any scale with a method that replaces the guidance"):
        api_model.generate("red cat", methods=both, negative_prompt="blue", steps=2)


def test_colour_match_uses_the_style_image(api_model, options, style_image):
    inverted = api_model.invert(tiny.tiny_image(32, 32), "red cat", method="parasol", steps=3)
    edit = inverted.edit("", style=style_image, colour_match=True, residual=False, **options)
    wanted = np.asarray(Image.open(style_image).convert("RGB")).reshape(-1, 3).mean(0)
    assert np.abs(edit.pixels[0].reshape(-1, 3).mean(0) - wanted).max() < 12  # pixels are clipped to 0..255


def test_colour_match_uses_the_style_image_that_was_read(api_model, options, style_image):
    inverted = api_model.invert(tiny.tiny_image(32, 32), "red cat", method="parasol", steps=2)
    given = {"style": style_image, "colour_match": True} | options
    wanted, run = inverted.edit("", **given), inverted.edit_steps("", **given)
    next(iter(run))
    Image.new("RGB", (24, 24), "red").save(style_image)
    assert np.array_equal(run.result.pixels[0], wanted.pixels[0])
    assert run.result.recipes == wanted.recipes
    assert inverted.edit("", **given).recipes != wanted.recipes


def test_colour_match_uses_pixels_inside_the_mask(api_model, options, style_image):
    image, wanted = tiny.tiny_image(32, 32), to_tensor(read_image(style_image))
    mask = np.zeros((32, 32), np.uint8)
    mask[4:20, 8:], mask[20:28, :16] = 255, 255
    inverted = api_model.invert(image, "red cat", method="parasol", steps=3)
    given = {"style": style_image, "mask": mask, "residual": False} | options
    *_, last = inverted.edit_steps("", **given)
    decoded = api_model.network.decode(last.state.x_prev)
    found = to_tensor(read_image(inverted.edit("", colour_match=True, **given).images[0]))[0, :, mask > 0]
    expected = match_colours(decoded[:, :, mask > 0][..., None], wanted)[0, ..., 0]  # of these pixels only
    assert (found - expected.clamp(-1, 1)).abs().max() < 0.01
    everywhere = match_colours(decoded, wanted)[0, :, mask > 0]
    assert (everywhere.clamp(-1, 1) - expected.clamp(-1, 1)).abs().max() > 0.02


def test_colour_match_of_generated_images(api_model, options, style_image):
    own = options | {"style": style_image, "content_text": "red", "lam": 0}
    run = api_model.generate_steps("red cat", methods=[("parasol", own)], steps=2, seed=[3, 4])
    *_, last = run
    decoded = api_model.network.decode(last.state.x_prev)
    matched = api_model.generate("red cat", methods=[("parasol", own | {"colour_match": True})], steps=2, seed=[3, 4])
    expected = match_colours(decoded, to_tensor(read_image(style_image))).clamp(-1, 1)
    for image, wanted in zip(matched.images, expected, strict=True):
        assert (to_tensor(read_image(image))[0] - wanted).abs().max() < 0.01
    with api_model.network.counting() as count, pytest.raises(BadInput, match="diffuseit edits images"):
        api_model.generate("red cat", methods=[("diffuseit", {"colour_match": "source"})], steps=2)
    assert count.samples == 0


def test_colours_of_several_styles_are_averaged_by_weight(tmp_path):
    paths, references = [str(tmp_path / name) for name in ("a.png", "b,c.png")], []
    for seed, path in enumerate(paths):
        tiny.tiny_image(24, 24, seed=seed).save(path)
        pixels = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3) / 127.5 - 1
        references.append((pixels.mean(0), np.cov(pixels.T, bias=True)))
    mean, covariance = ((each[0] + 3 * each[1]) / 4 for each in zip(*references, strict=True))
    edited = 2 * torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) - 1
    for weights in ({paths[0]: 1, paths[1]: 3.0}, {paths[1]: 0.75, paths[0]: 0.25}):
        params = ParasolParams(parasol="x", style=weights, colour_match=True)
        found = params.finish(edited, edited)[0].reshape(3, -1).numpy()
        np.testing.assert_allclose(found.mean(1), mean, atol=1e-5)
        np.testing.assert_allclose(np.cov(found, bias=True), covariance, atol=1e-5)


def test_options_without_effect_are_noted(api_model, options):
    inverted = api_model.invert(tiny.tiny_image(32, 32), "red cat", method="parasol", steps=3)
    options |= {"style_text": "flat"}
    assert inverted.edit("", **options).report["notes"] == []
    assert inverted.edit("red cat", **options).report["notes"] == []
    (note,) = inverted.edit("green dog", guidance_scale=3.0, **options).report["notes"]
    assert note.startswith("the target prompt and the guidance scale had no effect")
    unknown = 'The style encoder knows no "impressionism": it has no effect.'
    words = options | {"style_text": "flat, in the style of impressionism"}
    assert inverted.edit("", **words).report["notes"] == [unknown]
    assert inverted.edit("green dog", **words).report["notes"][0] == unknown
    without = "The method parasol had no effect without parasol."
    assert inverted.edit("green dog", guidance_scale=3.0).report["notes"] == [without]
    made = api_model.generate("red cat", methods=[("parasol", options | {"content_text": "red", "lam": 0})], steps=2)
    assert made.report["notes"][0].startswith("the target prompt")


def test_target_prompt_that_another_method_reads_is_not_noted(api_model, options, style_image):
    """The text loss of diffuseit reads the target prompt; its image losses, and those with an own text, do not."""
    inverted = api_model.invert(tiny.tiny_image(24, 24), "red cat", method="parasol", steps=2)
    options |= {"style_text": "flat"}
    quick = {"resample": 1, "crops": 1}

    def notes(**more):
        methods = [("parasol", options), ("diffuseit", quick | more)]
        return inverted.edit("green dog", methods=methods, skip=0).report["notes"]

    assert notes() == []
    for more in ({"target_text": "blue dog"}, {"target_image": style_image}):
        (note,) = notes(**more)
        assert note.startswith("the target prompt had no effect")


def test_a_path_may_contain_commas():
    weights = {"a,b.png": 2.0, 'c "d".png': 0.5, "e=f.png": 1.0, "g=2,h.png": 1.0}
    assert parse_weighted("style", weighted_text(weights)) == weights
    assert ParasolParams(parasol="x", style=weights).style_images == weights
    assert read_weighted("style", ["a,b.png", "e=f.png", "c.png=2"]) == {"a,b.png": 1, "e=f.png": 1, "c.png": 2}
    assert weighted_text({}) == ""
    with pytest.raises(BadInput, match=r"weight of a.png must be a number"):
        ParasolParams(style={"a.png": "much"})


def test_descriptors_are_mixed_by_weight(api_model, options, describers, style_image, tmp_path):
    from sfumato.style.mixing import mixed

    tiny.tiny_image(24, 24, seed=8).save(tmp_path / "b.png")
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
    inverted = api_model.invert(tiny.tiny_image(32, 32), "red cat", method="parasol", steps=5)
    with api_model.network.counting() as count, pytest.raises(BadInput, match=sentence):
        inverted.edit("", **({"style": style_image} | options | changes))
    assert count.samples == 0


def test_style_command_equals_the_method(sfumato_command, api_model, saved, encoders, style_image, tiny_folder):
    flags = ["--content-encoder", encoders[0], "--style-encoder", encoders[1], "--parasol", saved, "--steps", 3]
    flags += ["--model", tiny_folder("sd")]
    made = sfumato_command("style", "photo.png", style_image, "-o", "out.png", *flags, "--json")
    assert made.code == 0, made.err
    options = {"parasol": str(saved), "content_encoder": str(encoders[0]), "style_encoder": str(encoders[1])}
    inverted = api_model.invert("photo.png", "", method="parasol", steps=3)
    wanted = inverted.edit("", style=style_image, **options)
    assert np.array_equal(np.asarray(Image.open("out.png").convert("RGB")), wanted.pixels[0])
    Image.open(style_image).save("a,b=c.png")
    Image.open("photo.png").save("photo.gif", save_all=True, append_images=[Image.new("RGB", (30, 22))])
    moving = sfumato_command("style", "photo.gif", style_image, "-o", "out3.png", *flags, "--json")
    assert moving.json["notes"] == ["photo.gif: animated: first frame of 2 used."]
    again = sfumato_command("style", "photo.png", "a,b=c.png", "-o", "out2.png", *flags, "--json")
    assert again.code == 0, again.err
    assert Path("out2.png").is_file()
    worded = sfumato_command("style", "photo.png", "--style-text", "flat oil", "-o", "out4.png", *flags)
    assert worded.err.splitlines() == ['sfumato: The style encoder knows no "oil": it has no effect.']
    words = ["--inversion", "edit-friendly", "--eta", 0.9, "--skip", 1, "--style-term", "with-content", "--seed", 7]
    made = sfumato_command("style", "photo.png", style_image, "-o", "out5.png", *flags, *words, "--json")
    assert made.json["notes"] == []
    found = []
    for seed, skip, term in ((7, 1, "with-content"), (8, 1, "with-content"), (7, 0, "with-content"), (7, 1, "alone")):
        sampled = {"inversion": "edit-friendly", "eta": 0.9, "steps": 3, "seed": seed}
        inverted = api_model.invert("photo.png", "", method="parasol", **sampled)
        edit = inverted.edit("", style=style_image, skip=skip, style_term=term, **options)
        found.append(np.array_equal(np.asarray(Image.open("out5.png").convert("RGB")), edit.pixels[0]))
    assert found == [True, False, False, False]
    seeded = sfumato_command("style", "photo.png", style_image, "-o", "out6.png", *flags, "--seed", 7, "--json")
    assert seeded.json["notes"] == ["the seed had no effect: with these settings the edit does not depend on it."]
    assert np.array_equal(np.asarray(Image.open("out6.png")), np.asarray(Image.open("out.png")))
    for words, sentence in (
        (["style", "photo.png", style_image, "-o", "x.png", *flags, "--eta", 0.5], "eta must be 0"),
        (["style", "photo.png", style_image, "-o", "x.png", "--model", tiny_folder("sd")], "give --parasol FILE"),
        (["style", "photo.png", "-o", "x.png", *flags], "give a style image"),
        (["style", "photo.png", style_image, "-o", "photo.png", *flags], "is an input"),
        (["style", "photo.png", "nosuch.png", "-o", "x.png", *flags], "nosuch.png"),
        (["style", "photo.png", style_image, "-o", "x.png", *flags, "--lam", 4], "lam must be between 0 and 3"),
    ):
        assert sentence in sfumato_command(*words).refused(), words


@pytest.mark.parametrize("inversion", ["edit-friendly", "native-ddpm"])
def test_inversion_with_own_tokens_reconstructs(api_model, options, style_image, inversion, tmp_path):
    """If the conditions do not change over the whole run, y is reconstructed (arXiv 2303.06464, section 3.5)."""
    image, prompt = tiny.tiny_image(32, 24), "red cat"
    given = options | {"inversion": inversion, "steps": 4, "skip": 0, "eta": 1.0, "style_scale": 2.0}
    with api_model.network.counting() as count:
        inverted = api_model.invert(image, prompt, method="parasol", invert_with="own-tokens", **given)
    assert count.samples == 3 * 4, "three rows per evaluation"
    x0 = inverted.groups[0].inversion.x0

    def error(found, **more):
        *_, last = found.edit_steps("", style=style_image, content=style_image, skip=0, residual=False, **more)
        return (last.state.x_prev - x0).abs().max().item()

    tolerance = 1e-4
    assert error(inverted, lam=4) < tolerance, "every step is under the style and the content of y"
    assert error(inverted, lam=3) > 5 * tolerance
    assert inverted.reconstruct().report["reconstruction_latent_max_error"] < tolerance
    inverted.save(tmp_path / "y.safetensors")
    again = api_model.open(tmp_path / "y.safetensors")
    assert again.reconstruct().report["reconstruction_latent_max_error"] < tolerance
    assert error(again, lam=4) < tolerance
    prompted = api_model.invert(image, prompt, method="parasol", **given)
    assert error(prompted, lam=4) > 5 * tolerance, "the default inversion is under the source prompt"


def test_own_tokens_are_inverted_for_every_scale_of_a_sweep(api_model, options, style_image):
    image, grid = tiny.tiny_image(32, 24), {"style_scale": [1.0, 8.0], "lam": [0, 1]}
    given = options | {"invert_with": "own-tokens", "style": style_image, "steps": 3, "content_scale": 2.0}
    with api_model.network.counting() as count:
        trials = list(
            sweep(api_model, image, "red cat", "", grid=grid, method="parasol", evaluator=Evaluator.load(), **given)
        )
    assert count.samples == 2 * 3 * 3 + 4 * 3 * 3, "one inversion per scale, one edit per setting"
    for trial in trials:
        alone = api_model.plan(image, "red cat", methods="parasol", **given | trial.options).run().result
        assert np.array_equal(trial.pixels, alone.pixels[0])


def test_edits_cannot_change_what_own_tokens_were_inverted_with(api_model, options, style_image, tmp_path):
    given, file = options | {"invert_with": "own-tokens", "steps": 2}, tmp_path / "own.safetensors"
    shutil.copy(given["parasol"], file)
    given["parasol"] = str(file)
    inverted = api_model.invert(tiny.tiny_image(32, 24), "red cat", method="parasol", **given)
    changes = {"style_scale": 8.0, "content_scale": 3.0, "style_term": "with-content", "parasol": options["parasol"]}
    for name, value in changes.items():
        for edit in ({name: value}, {"methods": [("parasol", {name: value})]}):
            with api_model.network.counting() as count, pytest.raises(BadInput, match=f"was inverted with {name} = "):
                inverted.edit("", **edit)
            assert count.samples == 0
    assert inverted.edit("", style=style_image, style_scale=5.0, lam=1).recipes[0]["style_scale"] == 5
    saved = Parasol.load(file)
    saved.tokens.null_style.data += 1
    saved.save(file)
    with pytest.raises(BadInput, match=r"own\.safetensors was changed after the image was inverted"):
        inverted.edit("", style=style_image)


def test_own_tokens_without_a_matching_file_are_refused(api_model, options, tmp_path):
    other = tmp_path / "other.safetensors"
    replace(Parasol.load(options["parasol"]), model="0" * 64).save(other)
    for changes, sentence in (({"parasol": ""}, "needs a PARASOL file"), ({"parasol": str(other)}, "another model")):
        with api_model.network.counting() as count, pytest.raises(BadInput, match=sentence):
            api_model.invert(
                tiny.tiny_image(32, 32), "red cat", method="parasol", invert_with="own-tokens", **options | changes
            )
        assert count.samples == 0


def test_recipes_contain_no_paths(api_model, options, style_image):
    inverted = api_model.invert(tiny.tiny_image(32, 32), "red cat", method="parasol", steps=2)
    (recipe,) = inverted.edit("", style=style_image, **options).recipes
    assert {each["name"] for each in recipe["files"]} == {Path(each).name for each in (*options.values(), style_image)}
    assert not any(str(Path(path).parent) in str(recipe) for path in (*options.values(), style_image))


def test_input_files_are_not_overwritten(sfumato_command, saved, encoders, style_image, tiny_folder):
    Image.open(style_image).save("content.png")
    flags = ["--content-encoder", encoders[0], "--style-encoder", encoders[1], "--parasol", saved]
    flags += ["--model", tiny_folder("sd"), "--steps", 2]
    for words, out in (
        (["style", "photo.png", style_image], style_image),
        (["style", "photo.png", f"{style_image}=2"], style_image),
        (["style", "photo.png", "--content", "content.png=2"], "content.png"),
        (["edit", "photo.png", "--method", "parasol", "--style", f"{style_image}=2"], style_image),
        (["edit", "photo.png", "--method", "parasol", "--content", "content.png"], "./content.png"),
        (["generate", "a cat", "--method", "parasol", "--style", style_image, "--lam", 0], style_image),
    ):
        assert "is an input" in sfumato_command(*words, *flags, "-o", out).refused(), words
    Path("sweep/edits").mkdir(parents=True)
    Image.open(style_image).save("sweep/edits/000.png")
    words = ["sweep", "photo.png", "--method", "parasol", "--grid", "style=sweep/edits/000.png;content.png", *flags]
    assert "is an input" in sfumato_command(*words, "-o", "sweep").refused()


@pytest.mark.parametrize("other", ["prompt-to-prompt", "pix2pix-zero"])
def test_methods_that_need_prompt_tokens_are_refused(api_model, options, other):
    inverted = api_model.invert(tiny.tiny_image(32, 32), "red cat", method="edit-friendly", steps=5)
    with api_model.network.counting() as count, pytest.raises(BadInput, match=f"{other} and parasol both replace"):
        inverted.edit("blue cat", methods=[other, ("parasol", options | {"style_text": "flat"})], skip=0)
    assert count.samples == 0
