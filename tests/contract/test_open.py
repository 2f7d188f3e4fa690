"""Taking up a saved inversion: whatever the file says, the model opens it or refuses it in one sentence."""

import random

import pytest

from sfumato.errors import BadInput
from tests.stored import parts, write
from tests.tiny import tiny_picture


@pytest.fixture(scope="module")
def saved(models, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "cat.safetensors"
    models("sd").invert([tiny_picture(), tiny_picture(seed=1)], "red cat", steps=4, skip=1).save(path)
    return parts(path)


def parameters(header, **changes):
    return {"parameters": {k: v for k, v in (header["parameters"] | changes).items() if v != "left out"}}


CHANGES = {
    "timestep 1000 ": lambda header: {"timesteps": [1000, 751, 501, 1], "model": ""},
    "no method ''": lambda header: parameters(header, method="left out"),
    'no method "\\[': lambda header: parameters(header, method=["edit-friendly"]),
    "no option 'stepps'": lambda header: parameters(header, stepps=4),
    "steps must be a whole number": lambda header: parameters(header, steps="4"),
    "skip must be": lambda header: parameters(header, skip=4),
    "it has 4 steps and says otherwise": lambda header: parameters(header, steps=5),
    "lacks its pictures, prompts": lambda header: {"prompts": []},
    "lacks its pictures, prompts or seeds": lambda header: {"seeds": []},
    "not the pictures": lambda header: {"images": ["a", "b"]},
    "another model": lambda header: {"model": "a" * 64},
    "shorten": lambda header: {"prompts": ["cat " * 100, ""]},
}


@pytest.mark.parametrize("words", CHANGES)
def test_what_does_not_belong_together_is_refused(models, saved, tmp_path, words):
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


def test_without_its_pictures_it_is_refused(models, saved, tmp_path):
    header, tensors = saved
    path = write(tmp_path / "odd.safetensors", header, {"x": tensors["x"], "z": tensors["z"]})
    with pytest.raises(BadInput, match="lacks its pictures"):
        models("sd").open(path, [tiny_picture(), tiny_picture(seed=1)])


def test_whatever_is_changed_it_edits_or_is_refused(models, saved, tmp_path):
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
