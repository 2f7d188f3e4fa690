"""PARASOL: tokens, guidance, losses, training and the method."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

import sfumato
from sfumato.core.guidance import Guided, Term
from sfumato.core.loop import reverse
from sfumato.core.rows import TARGET
from sfumato.errors import BadInput
from sfumato.methods.parasol import ParasolParams
from sfumato.methods.weighted import parse_weighted, read_weighted, weighted_text
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.models.load import load_model
from sfumato.retrieval.index import FORMAT
from sfumato.retrieval.triplets import Images, Triplets
from sfumato.shifts.two_modalities import TwoModalities
from sfumato.style.describers import Describers
from sfumato.style.tokens import Parasol
from sfumato.train.parasol import FILE, _check_model
from sfumato.train.seeds import step_generator
from sfumato.train.start import build_task
from tests import tiny
from tests.style.small import random_tokens, save_both, save_parasol
from tests.train.small import small_recipe, trained

CONTENT, STYLE = 10, 12
"""Dimensions of the small encoders."""


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    return save_both(tmp_path_factory.mktemp("encoders"))


@pytest.fixture(scope="module")
def describers(encoders):
    return Describers.load(*encoders)


@pytest.fixture(scope="module")
def model(tiny_folder):
    return load_model(str(tiny_folder("sd")))


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    return Path(save_parasol(tmp_path_factory.mktemp("parasol"), model)["parasol"])


def unit(n, d, seed=0):
    return F.normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_tokens_are_stacked_and_dropped_independently():
    tokens, a, c = random_tokens(8), unit(4, STYLE), unit(4, CONTENT)
    keep_style, keep_content = torch.tensor([1, 1, 0, 0]).bool(), torch.tensor([1, 0, 1, 0]).bool()
    found = tokens(a, c, keep_style, keep_content)
    hidden = a
    for layer in tokens.project:
        hidden = layer(hidden) if isinstance(layer, torch.nn.Linear) else hidden.clamp(min=0)
    mapped = c @ tokens.content.weight.T + tokens.content.bias
    for row in range(4):
        torch.testing.assert_close(found[row, 0], hidden[row] if keep_style[row] else tokens.null[0])
        torch.testing.assert_close(found[row, 1], mapped[row] if keep_content[row] else tokens.null[1])
    torch.testing.assert_close(tokens.of(a, None, 4), tokens(a, c, keep_style | True, keep_content & False))
    torch.testing.assert_close(tokens.of(None, c[:1], 3)[:, 1], mapped[:1].expand(3, -1))


def test_a_file_keeps_the_tokens(saved, model, describers, tmp_path):
    again, tokens = Parasol.load(saved), random_tokens(model.token_width)
    assert all(torch.equal(value, tokens.state_dict()[name]) for name, value in again.tokens.state_dict().items())
    again.check_model(model)
    again.check_describers(describers)
    with pytest.raises(BadInput, match="another style encoder"):
        dataclasses.replace(again, style_encoder="0" * 64).check_describers(describers)
    with pytest.raises(BadInput, match="trained for another model"):
        dataclasses.replace(again, model="0" * 64).check_model(model)
    broken = dataclasses.replace(again, model="two words")
    broken.save(tmp_path / "broken.safetensors")
    with pytest.raises(BadInput, match="not a PARASOL file, or is damaged"):
        Parasol.load(tmp_path / "broken.safetensors")


def shift_of(model, describers, **changes):
    given = dict(style=unit(1, STYLE), content=unit(1, CONTENT, 1), style_scale=3.0, content_scale=2.0, own_steps=0)
    return TwoModalities(random_tokens(model.token_width), model, describers, **(given | changes))


def run(model, shift, x, source=None, steps=3):
    plain = Guided(model, (Term(TARGET, None),))
    condition = model.condition(["red cat"] * len(x))
    timesteps = model.schedule.timesteps(steps)
    return list(
        reverse(plain, x, timesteps, condition, eta=0.0, noise_maps=lambda s: None, shifts=[shift], source=source)
    )


def predicted(model, x, t, tokens):
    return model.predict(x, t, dataclasses.replace(model.condition([""] * len(x)), tokens=tokens, prompts=()))


def test_the_noise_is_the_sum_of_three_predictions_in_one_call(model, describers):
    shift = shift_of(model, describers)
    x = torch.randn(2, model.latent_channels, 8, 8, generator=torch.Generator().manual_seed(0))
    with model.counting() as count:
        steps = run(model, shift, x)
    assert (count.calls, count.samples) == (3, 3 * 3 * 2)
    for step in steps:
        null, style, content = (
            predicted(model, step.x_t, step.t, shift.tokens.of(a, c, 2))
            for a, c in ((None, None), (shift.style, None), (None, shift.content))
        )
        torch.testing.assert_close(step.eps, null + 3 * (style - null) + 2 * (content - null), rtol=1e-4, atol=1e-4)


def test_the_first_steps_have_the_style_of_the_source(model, describers):
    x0 = torch.randn(2, model.latent_channels, 8, 8, generator=torch.Generator().manual_seed(2))
    shift = shift_of(model, describers, content=None, own_steps=2)
    steps = run(model, shift, x0, {-1: x0}, steps=4)
    pixels = (model.decode(x0).clamp(-1, 1) + 1) / 2
    own = {name: describers.of(name).image_features(pixels) for name in ("style", "content")}
    for step in steps:
        a = own["style"] if step.i < 2 else shift.style
        null, style, content = (
            predicted(model, step.x_t, step.t, shift.tokens.of(*each, 2))
            for each in ((None, None), (a, None), (None, own["content"]))
        )
        torch.testing.assert_close(step.eps, null + 3 * (style - null) + 2 * (content - null), rtol=1e-4, atol=1e-4)
    assert not shift._own, "a run leaves something in the shift of the caller"


def test_the_descriptors_of_the_source_are_those_of_its_centre_square(model, describers):
    x0 = torch.randn(1, model.latent_channels, 8, 12, generator=torch.Generator().manual_seed(2))
    shift = shift_of(model, describers, style=None, content=None).for_run()
    *_, last = run(model, shift, x0, {-1: x0}, steps=2)
    pixels = (model.decode(x0).clamp(-1, 1) + 1) / 2
    side, width = pixels.shape[-2:]
    square = pixels[..., (width - side) // 2 : (width + side) // 2]
    own = [describers.of(name).image_features(square) for name in ("style", "content")]
    null, style, content = (
        predicted(model, last.x_t, last.t, shift.tokens.of(*each, 1))
        for each in ((None, None), (own[0], None), (None, own[1]))
    )
    torch.testing.assert_close(last.eps, null + 3 * (style - null) + 2 * (content - null), rtol=1e-4, atol=1e-4)


def test_scales_of_zero_evaluate_less(model, describers):
    x = torch.randn(1, model.latent_channels, 8, 8, generator=torch.Generator().manual_seed(0))
    with model.counting() as count:
        run(model, shift_of(model, describers, style_scale=0.0), x)
    assert count.samples == 2 * 3


def test_two_such_shifts_are_refused(model, describers):
    shift = shift_of(model, describers)
    plain, x = Guided(model, (Term(TARGET, None),)), torch.zeros(1, model.latent_channels, 8, 8)
    with pytest.raises(BadInput, match="both replace the guidance"):
        next(
            reverse(
                plain,
                x,
                [500, 0],
                model.condition([""]),
                eta=0.0,
                noise_maps=lambda s: None,
                shifts=[shift, shift_of(model, describers)],
            )
        )


@pytest.fixture(scope="module")
def api_model(tiny_folder):
    return sfumato.load(str(tiny_folder("sd")))


@pytest.fixture
def options(saved, encoders):
    return {"parasol": str(saved), "content_encoder": str(encoders[0]), "style_encoder": str(encoders[1])}


@pytest.fixture
def style_image(tmp_path):
    tiny.tiny_picture(24, 24, seed=5).save(tmp_path / "style.png")
    return str(tmp_path / "style.png")


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


def write_triplets(path, place, describers):
    """Every image is its own triplet."""
    files = sorted(str(each) for each in place.glob("*.png"))
    vectors = {"content": unit(len(files), CONTENT).numpy(), "style": unit(len(files), STYLE).numpy()}
    images, rows = Images(files, files, vectors, {}), np.arange(len(files))
    about = {"format": FORMAT} | {n: {"fingerprint": describers.of(n).fingerprint} for n in ("content", "style")}
    pq.write_table(Triplets(images, images, images, rows, rows).table(about), path)
    return files


@pytest.fixture
def recipe(pictures, tiny_folder, encoders, describers, tmp_path):
    write_triplets(tmp_path / "t.parquet", pictures, describers)
    network = {"model": str(tiny_folder("sd")), "triplets": str(tmp_path / "t.parquet"), "hidden": 16}
    network |= {"content": str(encoders[0]), "style": str(encoders[1])}
    return small_recipe("parasol", pictures, 2, network, batch=4, drop_style=0.5, drop_content=0.5)


def test_the_loss_is_the_sum_of_three(recipe, tmp_path, describers):
    task = build_task(recipe, tmp_path / "run")
    batch = task.batch(step_generator(0, 0, 0), 4)
    loss, scalars = task.module(batch)
    model, abar = task.model, task.model.schedule.alphas_cumprod.float()[batch["t"]].reshape(-1, 1, 1, 1)
    x_t = abar.sqrt() * batch["x0"] + (1 - abar).sqrt() * batch["eps"]
    tokens = task.module.tokens(*(batch[name] for name in ("style", "content", "keep_style", "keep_content")))
    eps = model.unet(x_t, batch["t"], encoder_hidden_states=tokens).sample
    wanted = (eps - batch["eps"]).square().mean()
    torch.testing.assert_close(scalars["diffusion"], wanted.detach())
    seen = model.decode(((x_t - (1 - abar).sqrt() * eps) / abar.sqrt())[:2])
    for name in ("style", "content"):
        error = (describers.of(name).image_features((seen.detach().clamp(-1, 1) + 1) / 2) - batch[name][:2]).square()
        part = (abar.flatten()[:2] * batch[f"keep_{name}"][:2] * error.mean(1)).mean()
        if name == "content":  # A takes the decoded image as it is, C clips it
            torch.testing.assert_close(scalars[name], part, rtol=1e-3, atol=1e-6)
        wanted = wanted + 100 * scalars[name]
    torch.testing.assert_close(loss.detach(), wanted.detach())
    loss.backward()
    moved = {name for name, p in task.module.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert {"tokens.null", "tokens.content.weight", "tokens.project.0.weight"} <= moved
    assert all(p.grad is None for p in model.unet.parameters())


def test_a_trained_file_is_taken_by_the_method(recipe, tmp_path, encoders, api_model, style_image, monkeypatch):
    monkeypatch.setattr("sfumato.train.parasol._STEPS", 2)
    run = trained(recipe, tmp_path / "run")
    run.task.sample(tmp_path / "run" / "samples", 2)
    assert list((tmp_path / "run" / "samples").glob("*.png"))
    run.export(tmp_path / "export")
    options = {"parasol": str(tmp_path / "export" / FILE), "style": style_image}
    options |= {"content_encoder": str(encoders[0]), "style_encoder": str(encoders[1])}
    inverted = api_model.invert(tiny.tiny_picture(32, 32), "red cat", method="parasol", steps=3)
    assert inverted.edit("", **options).pixels[0].shape == (32, 32, 3)


def test_triplets_that_do_not_fit_are_refused(recipe, tmp_path, pictures, describers):
    def refused(sentence, **network):
        changed = dataclasses.replace(recipe, network=recipe.network | network)
        with pytest.raises(BadInput, match=sentence):
            build_task(changed, tmp_path / "x")

    refused("no file|There is no|cannot be read|does not exist", triplets=str(tmp_path / "nowhere.parquet"))
    (tmp_path / "text.parquet").write_text("text")
    refused("is not a table of triplets", triplets=str(tmp_path / "text.parquet"))
    other = Describers.load(*save_both(tmp_path / "other", seed=3))
    write_triplets(tmp_path / "other.parquet", pictures, other)
    refused("content descriptors of another encoder", triplets=str(tmp_path / "other.parquet"))
    table = pq.read_table(recipe.network["triplets"])
    pq.write_table(table.set_column(0, "output", [["elsewhere"] * len(table)]), tmp_path / "elsewhere.parquet")
    refused("No output image", triplets=str(tmp_path / "elsewhere.parquet"))
    about = {"format": "sfumato.image-index.2"} | {n: {"fingerprint": "0"} for n in ("content", "style")}
    pq.write_table(table.replace_schema_metadata({"sfumato": json.dumps(about)}), tmp_path / "old.parquet")
    refused("from an index of another version: make the index again", triplets=str(tmp_path / "old.parquet"))


def test_missing_triplets_are_logged_and_paths_may_differ_in_their_spelling(recipe, tmp_path, caplog):
    table = pq.read_table(recipe.network["triplets"])
    names = table["output"].to_pylist()
    changed = table.set_column(0, "output", [[*names[:-2], "elsewhere", "too"]])
    pq.write_table(changed, tmp_path / "some.parquet")
    folder = str(Path(recipe.data.folder, "..", Path(recipe.data.folder).name))
    data = dataclasses.replace(recipe.data, folder=folder)
    network = recipe.network | {"triplets": str(tmp_path / "some.parquet")}
    task = build_task(dataclasses.replace(recipe, data=data, network=network), tmp_path / "x")
    assert len(task.triplets.rows) == len(names) - 2
    assert f"2 of {len(names)} triplets are left out" in caplog.text


def test_networks_that_take_more_than_tokens_are_refused(recipe, tmp_path, tiny_folder):
    def inpainting(unet):
        unet.register_to_config(in_channels=2 * unet.config.in_channels + 1)

    def labelled(unet):
        unet.register_to_config(num_class_embeds=3)
        unet.class_embedding = torch.nn.Embedding(3, 4)

    with pytest.raises(BadInput, match="no SDXL, class labels or inpainting"):
        build_task(
            dataclasses.replace(recipe, network=recipe.network | {"model": str(tiny_folder("sdxl"))}), tmp_path / "x"
        )
    for change in (inpainting, labelled):
        model = load_model(str(tiny_folder("sd")))
        _check_model("sd", model)
        change(model.unet)
        changed = DiffusionModel(model.unet, model.codec, model.text_encoders, model.schedule)
        with pytest.raises(BadInput, match="no SDXL, class labels or inpainting"):
            _check_model("sd", changed)


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
