"""Inversions and edits with networks that take maps, class labels or tokens in addition to prompts."""

import pickle

import numpy as np
import pytest
import torch

from sfumato.api.edit_plan import plan_edit
from sfumato.api.model import Model
from sfumato.api.variations import variations
from sfumato.core.guidance import classifier_free
from sfumato.geometry import BottleneckMap
from sfumato.geometry.search import find_directions
from sfumato.images import read_recipe
from sfumato.inversion import replay
from sfumato.models.load import load_model
from sfumato.models.maps import inpainting_maps
from tests import tiny
from tests.contract.composed import refused

IMAGE, OTHER = tiny.tiny_image(32, 24), tiny.tiny_image(32, 24, seed=1)
STEPS, SKIP = 4, 1
FOLDERS = {
    "inpainting": tiny.tiny_inpainting,
    "upscaler": tiny.tiny_upscaler,
    "classes": lambda folder: tiny.tiny_ddpm(folder, num_class_embeds=11),
    "latent classes": tiny.tiny_class_latent,
    "tokens": lambda folder: tiny.tiny_class_latent(folder, cross_attention=True, num_class_embeds=None),
}


def uniform(*shape, seed):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


MAPS = {channels: [uniform(1, channels, 6, 8, seed=seed) * 2 - 1 for seed in (1, 2)] for channels in (3, 5)}
INPUTS = {
    "inpainting": [{"maps": maps} for maps in MAPS[5]],
    "upscaler": [{"maps": maps, "labels": [label]} for maps, label in zip(MAPS[3], (20, 3), strict=True)],
    "classes": [{"labels": 3}, {"labels": 7}],
    "latent classes": [{"labels": [3]}, {"labels": torch.tensor([7])}],
    "tokens": [{"tokens": uniform(1, 3, tiny.WIDTH, seed=seed) * 4} for seed in (3, 4)],
}
"""The additional inputs of a source, and others, for every network."""


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("m")
    return {name: Model(load_model(make(root / name), "cpu")) for name, make in FOLDERS.items()}


@pytest.fixture(params=FOLDERS)
def case(request, models):
    """A model, its source prompt, and two sets of inputs."""
    model = models[request.param]
    return model, "red cat" if model.network.takes_text else "", *INPUTS[request.param]


def error_of(inverted):
    return inverted.reconstruct().report["reconstruction_latent_max_error"]


def last_latent(run):
    *_, last = run
    return last.state.x_prev


def same(one, other):
    """Whether two lists of images differ by rounding at most."""
    return all(np.abs(a.astype(int) - b).max() <= 1 for a, b in zip(one, other, strict=True))


def test_reconstruction_and_edit_without_change_reproduce_the_image(case):
    model, prompt, own, _ = case
    inverted = model.invert(IMAGE, prompt, steps=STEPS, exact=True, **own)
    assert error_of(inverted) <= 1e-6
    x0, scale = inverted.groups[0].inversion.x0, inverted.params.source_guidance_scale
    for again in ({}, own):
        unchanged = last_latent(inverted.edit_steps(prompt, skip=SKIP, guidance_scale=scale, **again))
        assert (unchanged - x0).abs().max() < 1e-5
        assert same(inverted.edit(prompt, skip=SKIP, guidance_scale=scale, **again).pixels, [np.asarray(IMAGE)])


def test_an_edit_is_the_replay_under_its_inputs(case):
    """Guidance uses them for the negative prediction, too."""
    model, prompt, own, others = case
    network, text = model.network, model.network.takes_text
    inverted = model.invert(IMAGE, prompt, steps=STEPS, **own)
    target, scale = ("blue dog", 3.0) if text else ("", 1.0)
    inversion = inverted.groups[0].inversion
    found = []
    for inputs, given in ((own, {}), (others, others)):
        negative = network.condition(["green"], size=(24, 32), **inputs) if text else None
        guided = classifier_free(network, negative, [scale])
        *_, last = replay(guided, inversion, network.condition([target], size=(24, 32), **inputs), skip=SKIP)
        more = {"negative_prompt": "green"} if text else {}
        run = inverted.edit_steps(target, skip=SKIP, guidance_scale=scale, **given, **more)
        found.append(last_latent(run))
        assert torch.equal(found[-1], last.x_prev)
    assert (found[0] - found[1]).abs().max() > 0.01


@pytest.mark.parametrize("batch", [None, 2])
def test_images_with_inputs_of_their_own_equal_the_single_ones(case, batch):
    """With `batch=2` each image is in a group of its own."""
    model, prompt, *both = case
    target = "blue dog" if model.network.takes_text else ""
    options = {"steps": STEPS, "seed": 5}
    parts = [read(each) for each in both]
    together = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    swapped = {name: part.flip(0) for name, part in together.items()}
    inverted = model.invert([IMAGE, OTHER], prompt, batch=batch, **options, **together)
    result = inverted.edit(target, skip=SKIP, **swapped)
    assert len(inverted.groups) == (1 if batch is None else 2)
    alone = [
        model.invert(image, prompt, **options, **own).edit(target, skip=SKIP, **others)
        for image, own, others in zip((IMAGE, OTHER), parts, parts[::-1], strict=True)
    ]
    assert same(result.pixels, [each.pixels[0] for each in alone])
    assert result.recipes == [each.recipes[0] for each in alone]


def read(inputs):
    """The inputs as tensors with one row."""
    return {name: torch.as_tensor(part).reshape(1, *torch.as_tensor(part).shape[1:]) for name, part in inputs.items()}


def test_recipes_contain_the_inputs_of_source_and_edit(models, tmp_path):
    inverted = models["classes"].invert(IMAGE, labels=3, steps=STEPS)
    for given, label in (({}, 3), ({"labels": 7}, 7)):
        inverted.edit(skip=SKIP, **given).save(tmp_path / "out.png")
        recipe = read_recipe(tmp_path / "out.png")
        assert (recipe["source_label"], recipe["label"]) == (3, label)
    assert inverted.reconstruct().recipes[0]["source_label"] == 3
    maps, other = MAPS[5]
    recipe = models["inpainting"].invert(IMAGE, "red cat", maps=maps, steps=STEPS).edit("dog", maps=other).recipes[0]
    generated = models["inpainting"].generate("dog", maps=torch.cat([maps, other]), steps=1).recipes
    assert [recipe["source_maps"], recipe["maps"]] == [each["maps"] for each in generated]
    assert "label" not in recipe


def test_recipes_do_not_depend_on_where_the_inputs_come_from(tmp_path):
    """In half precision too: maps given to the edit, and those of the inversion, have the same SHA-256."""
    model, (maps, _) = Model(load_model(tiny.tiny_inpainting(tmp_path / "m"), "cpu", "bf16")), MAPS[5]
    inverted = model.invert(IMAGE, "red cat", maps=maps, steps=2)
    for recipe in (inverted.edit("dog").recipes[0], inverted.edit("dog", maps=maps).recipes[0]):
        assert recipe["maps"] == recipe["source_maps"]


def test_one_image_with_several_labels(models):
    model = models["classes"]
    alone = [model.invert(IMAGE, labels=label, steps=STEPS) for label in (3, 7)]
    inverted = model.invert(IMAGE, labels=[3, 7], steps=STEPS)
    assert same(inverted.edit(skip=SKIP).pixels, [each.edit(skip=SKIP).pixels[0] for each in alone])
    edits = alone[0].edit(labels=[3, 7], skip=SKIP)
    assert same(edits.pixels, [alone[0].edit(labels=label, skip=SKIP).pixels[0] for label in (3, 7)])
    assert not same(*([each] for each in edits.pixels))


def test_a_saved_inversion_is_opened_with_its_inputs(case, tmp_path):
    model, prompt, own, others = case
    inverted = model.invert(IMAGE, prompt, steps=STEPS, exact=True, **own)
    inverted.save(tmp_path / "i.safetensors")
    back = model.open(tmp_path / "i.safetensors", **own)
    assert error_of(back) <= 1e-6
    target = "blue dog" if prompt else ""
    options = {"skip": SKIP, **others}
    assert np.array_equal(back.edit(target, **options).pixels[0], inverted.edit(target, **options).pixels[0])
    refused(model, r"give (labels|maps|tokens)", lambda: model.open(tmp_path / "i.safetensors"))


def test_a_pickled_plan_contains_the_inputs(case):
    model, prompt, own, others = case
    target = "blue dog" if prompt else ""
    plan = model.plan(
        IMAGE,
        prompt,
        target,
        steps=STEPS,
        skip=SKIP,
        **own,
        **{f"target_{name}": part for name, part in others.items()},
    )
    inverted = model.invert(IMAGE, prompt, steps=STEPS, **own)
    expected = inverted.edit(target, skip=SKIP, **others).pixels[0]
    assert np.array_equal(plan.run().result.pixels[0], expected)
    assert np.array_equal(pickle.loads(pickle.dumps(plan)).on(model).run().result.pixels[0], expected)
    default = model.plan(IMAGE, prompt, target, steps=STEPS, skip=SKIP, **own).run().result.pixels[0]
    assert np.array_equal(default, inverted.edit(target, skip=SKIP).pixels[0])


def test_a_run_under_the_source_prompt_has_the_inputs_of_the_edit(models, tmp_path):
    """pix2pix-zero adds a direction to the source prompt."""
    maps, other = MAPS[5]
    inverted = models["inpainting"].invert(IMAGE, "red cat", method="pix2pix-zero", maps=maps, steps=STEPS)
    (batch,) = plan_edit(inverted, "red dog", maps=other, options={}).batches
    assert torch.equal(batch.job.source.maps, maps)
    assert torch.equal(batch.job.condition.maps, other)
    assert torch.equal(batch.job.condition.tokens, batch.job.source.tokens)
    found = [inverted.edit("red dog", **each).pixels[0] for each in ({}, {"maps": maps}, {"maps": other})]
    assert np.array_equal(found[0], found[1])
    assert not np.array_equal(found[1], found[2])
    models["inpainting"].text_direction("cat", "dog").save(tmp_path / "d.safetensors")
    saved = inverted.edit("red dog", maps=other, direction_file=str(tmp_path / "d.safetensors")).pixels[0]
    assert np.array_equal(saved, found[2])


@pytest.mark.parametrize("region", [{"mask_words": "cat"}, {"mask_difference": True, "mask_threshold": 1.0}])
def test_regions_of_other_maps_are_computed_again(models, region):
    model, (maps, other) = models["inpainting"], MAPS[5]
    options = {"skip": SKIP, "residual": False, **region}
    inverted = model.invert(IMAGE, "red cat", maps=maps, steps=STEPS)
    first = inverted.edit("blue cat", **options).pixels[0]
    second = inverted.edit("blue cat", maps=other, **options).pixels[0]
    fresh = model.invert(IMAGE, "red cat", maps=maps, steps=STEPS).edit("blue cat", maps=other, **options).pixels[0]
    assert np.array_equal(second, fresh)
    assert not np.array_equal(first, second)
    count = len(inverted.groups[0].maps)
    inverted.edit("blue cat", maps=other, **options)
    assert len(inverted.groups[0].maps) == count


def test_variations_use_the_maps_of_the_image(models, tmp_path):
    model, (maps, _) = models["inpainting"], MAPS[5]
    inverted = model.invert(IMAGE, "red cat", method="pullback", maps=maps, steps=STEPS, guidance_scale=3.0)
    inversion, condition = inverted.groups[0].inversion, inverted.groups[0].condition
    f = BottleneckMap(model.network, inversion.timesteps[0], condition.repeat(2))
    found = find_directions(f, inversion.x[0].repeat(2, 1, 1, 1), 1, steps=STEPS, step=0)
    found.save(tmp_path / "d.safetensors")
    ((one, other),) = variations(inverted, found, (0.0, 2.0))
    options = {"directions": str(tmp_path / "d.safetensors"), "direction": found.names[0]}
    edits = [inverted.edit(gamma=gamma, **options).pixels[0] for gamma in (0.0, 2.0)]
    assert np.abs(np.stack(edits).astype(int) - np.stack([one, other])).max() <= 1


def test_inpainting_maps_of_the_image(models):
    """The maps of an image and a mask of its size."""
    model = models["inpainting"]
    pixels = torch.from_numpy(np.asarray(IMAGE).copy()).permute(2, 0, 1)[None] / 127.5 - 1
    maps = inpainting_maps(model.network, pixels, uniform(1, 1, 24, 32, seed=6))
    inverted = model.invert(IMAGE, "red cat", maps=maps, steps=STEPS, exact=True)
    assert error_of(inverted) <= 1e-6
    assert len(inverted.edit("blue dog", skip=SKIP)) == 1


WRONG = [
    ("classes", {}, "takes class labels: give labels"),
    ("classes", {"labels": 11}, r"labels must be integers \[rows\] from 0 to 10, not 11"),
    ("classes", {"labels": [1, 2, 3]}, "one label for all 2 images or one for each, not 3"),
    ("classes", {"labels": 3, "maps": MAPS[5][0]}, "takes no channels in addition"),
    ("inpainting", {}, r"give maps=\[rows,5,h,w\] in Python"),
    ("inpainting", {"maps": MAPS[3][0]}, r"maps must have the shape \[rows,5,h,w\]"),
    (
        "inpainting",
        {"maps": MAPS[5][0][..., :4]},
        "maps must have the height and width of the latents, 6 x 8, not 6 x 4",
    ),
    ("tokens", {}, r"give tokens=\[rows,n,16\]"),
]


@pytest.mark.parametrize(("name", "given", "message"), WRONG)
def test_wrong_inputs_are_refused_before_any_evaluation(models, name, given, message):
    model = models[name]
    prompt = "red cat" if model.network.takes_text else ""
    both, right = [IMAGE, OTHER], INPUTS[name][0]
    refused(model, message, lambda: model.invert_steps(both, prompt, **given))
    refused(model, message, lambda: model.plan(both, prompt, prompt, **given))
    if given:
        inverted = model.invert(both, prompt, steps=STEPS, **right)
        refused(model, message, lambda: inverted.edit_steps(prompt, **given))
        target = {f"target_{name}": part for name, part in given.items()}
        refused(model, message, lambda: model.plan(both, prompt, prompt, **right, **target))


def test_maps_of_images_of_several_sizes_are_refused(models):
    model, maps = models["inpainting"], MAPS[5][0]
    images = [IMAGE, tiny.tiny_image(32, 32)]
    message = "those of the images have 6 x 8 and 8 x 8: give the images of each size in a call of their own"
    refused(model, message, lambda: model.invert_steps(images, "red cat", maps=maps))


def test_images_of_several_sizes_with_labels(models):
    model, images = models["classes"], [IMAGE, tiny.tiny_image(16, 16), OTHER]
    inverted = model.invert(images, labels=[3, 4, 5], steps=STEPS)
    assert [each["label"] for each in inverted.edit(skip=SKIP).recipes] == [3, 4, 5]
    result = inverted.edit(labels=[6, 7, 8], skip=SKIP)
    assert [(each["source_label"], each["label"]) for each in result.recipes] == [(3, 6), (4, 7), (5, 8)]
    alone = [
        model.invert(image, labels=label, steps=STEPS).edit(labels=label + 3, skip=SKIP).pixels[0]
        for label, image in zip((3, 4, 5), images, strict=True)
    ]
    assert same(result.pixels, alone)


def test_reference_images_are_refused_in_one_sentence(models, tmp_path):
    """They have prompts only."""
    IMAGE.save(tmp_path / "other.png")
    model = models["inpainting"]
    inverted = model.invert(IMAGE, "red cat", maps=MAPS[5][0], steps=STEPS)
    method = ("self-guidance", {"layout_from": str(tmp_path / "other.png"), "layout_prompt": "cat"})
    message = "takes 5 channels .* which a reference image does not provide"
    refused(model, message, lambda: inverted.edit_steps("red cat", methods=[method]))
