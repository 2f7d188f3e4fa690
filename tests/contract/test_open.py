"""Opening saved inversions: a file is opened or refused in one line, whatever it contains."""

import random

import numpy as np
import pytest

from sfumato.api.loading import load
from sfumato.errors import BadInput
from tests.stored import parts, write
from tests.tiny import tiny_image


@pytest.fixture(scope="module")
def saved(models, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "cat.safetensors"
    models("sd").invert([tiny_image(), tiny_image(seed=1)], "red cat", steps=4, skip=1).save(path)
    return parts(path)


def parameters(header, **changes):
    return {"parameters": {k: v for k, v in (header["parameters"] | changes).items() if v != "left out"}}


CHANGES = {
    "timestep 1000": lambda header: {"timesteps": [1000, 751, 501, 1], "model": ""},
    "no method ''": lambda header: parameters(header, method="left out"),
    'no method "\\[': lambda header: parameters(header, method=["edit-friendly"]),
    "no option 'stepps'": lambda header: parameters(header, stepps=4),
    "steps must be an integer": lambda header: parameters(header, steps="4"),
    "skip must be": lambda header: parameters(header, skip=4),
    "it has 4 steps but its parameters have another number": lambda header: parameters(header, steps=5),
    "lacks its images, prompts": lambda header: {"prompts": []},
    "lacks its images, prompts or seeds": lambda header: {"seeds": []},
    "not the images": lambda header: {"images": ["a", "b"]},
    "another model": lambda header: {"model": "a" * 64},
    "batch must be": lambda header: parameters(header, batch="2"),
    "shorten": lambda header: {"prompts": ["cat " * 100, ""]},
}


@pytest.mark.parametrize("words", CHANGES)
def test_inconsistent_headers_are_refused(models, saved, tmp_path, words):
    header, tensors = saved
    path = write(tmp_path / "odd.safetensors", header | CHANGES[words](header), tensors)
    with pytest.raises(BadInput, match=words):
        models("sd").open(path)


def test_latents_of_another_shape_are_refused(models, saved, tmp_path):
    header, tensors = saved
    for x in (tensors["x"][..., :-2, :], tensors["x"][:, :, :3]):
        path = write(tmp_path / "odd.safetensors", header, tensors | {"x": x, "z": x[1:]})
        with pytest.raises(BadInput, match=r"has latents .* and this model \[4, 8, 8\]"):
            models("sd").open(path)


def test_file_without_images_is_refused(models, saved, tmp_path):
    header, tensors = saved
    path = write(tmp_path / "odd.safetensors", header, {"x": tensors["x"], "z": tensors["z"]})
    with pytest.raises(BadInput, match="lacks its images"):
        models("sd").open(path, [tiny_image(), tiny_image(seed=1)])


def test_modified_headers_are_edited_or_refused(models, saved, tmp_path):
    header, tensors = saved
    draw = random.Random(1)
    values = [None, 0, 1, 4, -1, 0.5, 10**30, "", "x", [], ["x", "y"], [1, 2], [0.5, 1.5], {}, {"method": "ddim"}]
    edited, sentences = 0, []
    for _ in range(60):
        changed = dict(header)
        if draw.random() < 0.5:
            name = draw.choice(list(header["parameters"]))
            changed |= parameters(header, **{name: draw.choice(values)})
        else:
            changed[draw.choice(list(header))] = draw.choice(values)
        path = write(tmp_path / "odd.safetensors", changed, tensors)
        try:
            result = models("sd").open(path).edit("green dog")
        except BadInput as error:
            sentences.append(str(error))
        else:
            edited += 1
            assert all(pixels.shape == (32, 32, 3) for pixels in result.pixels)
    assert edited + len(sentences) == 60
    assert sentences
    assert not any("\n" in sentence for sentence in sentences)


def test_images_of_several_batches_are_saved_in_order(models, tmp_path):
    """Every image keeps its position, prompt and seed; images of different sizes cannot be saved in one file."""
    model, images = models("sd"), [tiny_image(seed=n) for n in range(3)]
    prompts, seeds = ["red cat", "blue dog", "green cat"], [5, 6, 7]
    inverted = model.invert(images, prompts, seed=seeds, steps=4, skip=1, batch=4)
    assert len(inverted.groups) == 2
    inverted.save(tmp_path / "three.safetensors")
    opened = model.open(tmp_path / "three.safetensors", batch=4)
    assert opened.prompts == prompts
    assert [opened.recipe(n)["seed"] for n in range(3)] == seeds
    for pixels, others in zip(opened.edit("red dog").pixels, inverted.edit("red dog").pixels, strict=True):
        np.testing.assert_array_equal(pixels, others)
    mixed = model.invert([images[0], tiny_image(40, 24)], "red cat", steps=2)
    with pytest.raises(BadInput, match="of one size"):
        mixed.save(tmp_path / "mixed.safetensors")


def test_recipes_contain_the_names_of_the_inverted_files(models, tmp_path):
    model, paths = models("sd"), [tmp_path / "photos" / f"{n}.png" for n in range(2)]
    paths[0].parent.mkdir()
    for n, path in enumerate(paths):
        tiny_image(seed=n).save(path)
    inverted = model.invert(paths, "red cat", steps=2)
    inverted.save(tmp_path / "two.safetensors")
    opened = model.open(tmp_path / "two.safetensors")
    assert [opened.recipe(n) for n in range(2)] == [inverted.recipe(n) for n in range(2)]
    header, tensors = parts(tmp_path / "two.safetensors")
    assert header["names"] == ["0.png", "1.png"]
    old = write(tmp_path / "old.safetensors", {n: v for n, v in header.items() if n != "names"}, tensors)
    assert model.open(old).recipe(0)["image"]["name"] == "the given image"


def test_opened_inversion_uses_the_given_batch(models, tmp_path):
    model = models("sd")
    model.invert([tiny_image(seed=n) for n in range(2)], "red cat", steps=4).save(tmp_path / "two.safetensors")
    opened = model.open(tmp_path / "two.safetensors", batch=2)
    with model.network.counting() as count:
        opened.edit("red dog", skip=1, guidance_scale=3.0)
    assert (count.calls, count.samples) == (2 * 3, 2 * 3 * 2)
    with pytest.raises(BadInput, match="batch must be"):
        model.open(tmp_path / "two.safetensors", batch=0)


@pytest.mark.parametrize(("batch", "groups"), [(None, [[0, 1], [2]]), (2, [[0], [1], [2]]), (6, [[0, 1, 2]])])
def test_opened_inversion_is_replayed_in_the_batches_of_the_inversion(models, tmp_path, batch, groups):
    """By default those with which it was computed, so that the replay of an exact inversion rounds equally."""
    model = models("sd")
    inverted = model.invert([tiny_image(seed=n) for n in range(3)], "red cat", steps=4, exact=True, batch=4)
    inverted.save(tmp_path / "three.safetensors")
    opened = model.open(tmp_path / "three.safetensors", batch=batch)
    assert [group.indices for group in opened.groups] == groups
    with model.network.counting() as count:
        reconstructed = opened.reconstruct()
    assert (count.calls, count.samples) == (4 * len(groups), 2 * 4 * 3)
    for pixels, others in zip(reconstructed.pixels, inverted.reconstruct().pixels, strict=True):
        np.testing.assert_allclose(pixels, others, atol=1)
    if batch is None:
        assert opened.latent_error == inverted.latent_error


def test_missing_direction_file_is_refused_only_if_used(models, tmp_path):
    model, direction = models("sd"), tmp_path / "direction.safetensors"
    model.text_direction("cat", "dog").save(direction)
    options = {"method": "pix2pix-zero", "steps": 3, "direction_file": str(direction)}
    model.invert(tiny_image(), "red cat", **options).save(tmp_path / "cat.safetensors")
    direction.unlink()
    opened = model.open(tmp_path / "cat.safetensors")
    assert opened.reconstruct().pixels[0].shape == (32, 32, 3)
    with pytest.raises(BadInput, match=r"There is no file .*direction\.safetensors"):
        opened.edit_steps("red dog")
    opened.edit_steps("red dog", direction_file="")


@pytest.mark.parametrize("value", [3, None, b"emoji", ["emoji"], "", " "])
def test_names_and_paths_of_another_type_are_refused(models, value):
    with pytest.raises(BadInput, match="A model must be a bundled name, a path or a hub id, not "):
        load(value, "cpu")
    with pytest.raises(BadInput, match="The file of an inversion must be a path, not "):
        models("sd").open(value)
    if value is not None:
        with pytest.raises(BadInput, match="config must be the path of a diffusers folder, not "):
            load("model.safetensors", "cpu", config=value)
