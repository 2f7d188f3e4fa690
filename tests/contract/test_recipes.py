"""Recipes identify the model, the image and every file by hashes, and name files without their folders."""

import shutil
from dataclasses import dataclass, field
from hashlib import sha256

import numpy as np
import pytest
import torch
from PIL import Image

import sfumato
from sfumato.api.report import files_used, recipe_parameters
from sfumato.core.shift import Shift
from sfumato.images import read_image, read_recipe
from sfumato.images.loaded_image import image_fingerprint
from sfumato.inversion import Inversion
from sfumato.options.option import option
from sfumato.options.params import Params, options_of
from sfumato.options.self_guidance import SelfGuidanceParams
from tests.contract.images import IMAGE


@dataclass(frozen=True)
class Folder(Params):
    """Parameters that name a folder."""

    network: str = option("", "folder of a network", stage="edit")

    @property
    def files(self):
        return [self.network]


def hash_of(path):
    return sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "private" / "cat.png"
    path.parent.mkdir()
    IMAGE.save(path)
    return path


@pytest.fixture
def twins(tiny_folder, tmp_path):
    """Two models with the same name that differ in one weight."""
    models = []
    for run in ("first", "second"):
        shutil.copytree(tiny_folder("ddpm"), tmp_path / run / "export")
        models.append(sfumato.load(tmp_path / run / "export", "cpu"))
    with torch.no_grad():
        models[1].network.unet.conv_in.weight[0, 0, 0, 0] += 1
    return models


@pytest.mark.parametrize("operation", ["generate", "edit", "reconstruct", "interpolate"])
def test_recipes_distinguish_models_with_the_same_name(twins, operation, tmp_path):
    recipes = []
    for model in twins:
        if operation == "generate":
            result = model.generate(steps=2)
        elif operation == "interpolate":
            result = model.interpolate(IMAGE, IMAGE.rotate(90), frames=2, steps=2)
        else:
            inverted = model.invert(IMAGE, steps=3)
            inverted.save(tmp_path / "inversion.safetensors")
            result = inverted.edit(skip=1) if operation == "edit" else inverted.reconstruct()
            assert result.recipes[0]["model_fingerprint"] == Inversion.load(tmp_path / "inversion.safetensors").model
        result.save(tmp_path / "out.png", 0)
        recipes.append(read_recipe(tmp_path / "out.png"))
        assert recipes[-1]["model_fingerprint"] == model.network.fingerprint()
    same, other = ({name: value for name, value in each.items() if name != "model_fingerprint"} for each in recipes)
    assert same.pop("operation") == other.pop("operation") == operation
    assert same == other
    assert recipes[0] != recipes[1]


def test_recipe_identifies_the_image_by_its_pixels(sd, photo):
    recipe = sd.invert(photo, "red cat", steps=3).edit("blue cat", skip=1).recipes[0]
    assert recipe["image"] == {"name": "cat.png", "sha256": image_fingerprint(read_image(photo))}
    array = sd.invert(np.asarray(IMAGE), "red cat", steps=3).edit("blue cat", skip=1).recipes[0]
    assert array["image"]["sha256"] == recipe["image"]["sha256"]
    assert "private" not in str(recipe)


def test_recipe_contains_names_and_hashes_of_method_files(sd, photo):
    banks = {}
    for name, text in (("source", "a photo of a cat\ncats\n"), ("target", "a photo of a dog\ndogs\n")):
        banks[f"{name}_bank"] = str(photo.with_name(f"{name}.txt"))
        photo.with_name(f"{name}.txt").write_text(text)
    inverted = sd.invert(photo, "red cat", method="pix2pix-zero", steps=2)
    alone = inverted.edit(**banks).recipes[0]
    composed = inverted.edit(methods=[("pix2pix-zero", banks)]).recipes[0]
    for recipe in (alone, composed):
        paths = [photo.with_name(f"{name}.txt") for name in ("source", "target")]
        assert recipe["files"] == [
            {"option": f"{path.stem}_bank", "name": path.name, "sha256": hash_of(path)} for path in paths
        ]
        assert recipe["methods"][0]["source_bank"] == "source.txt"
        assert "private" not in str(recipe)
    assert "files" not in inverted.edit("blue cat").recipes[0]
    assert inverted.edit(**banks).report["parameters"]["source_bank"] == banks["source_bank"], "reports stay here"


def test_only_the_option_that_names_a_file_is_rewritten():
    params = SelfGuidanceParams(appearance_from="a/fox", appearance_prompt="a/fox", restyle="fox: b/a/fox: b/a/fox2")
    values = recipe_parameters(params)
    assert (values["appearance_from"], values["appearance_prompt"]) == ("fox", "a/fox")
    assert values["restyle"] == "fox: fox: fox2"


def test_hash_changes_with_the_direction_file(sd, photo):
    path, hashes = photo.with_name("cat-dog.safetensors"), []
    inverted = sd.invert(photo, "red cat", method="pix2pix-zero", steps=2)
    for target in ("dog", "fox"):
        sd.text_direction("cat", target).save(path)
        recipe = inverted.edit(direction_file=str(path)).recipes[0]
        assert recipe["files"] == [{"option": "direction_file", "name": path.name, "sha256": hash_of(path)}]
        assert recipe["direction_file"] == path.name
        hashes.append(recipe["files"][0]["sha256"])
    assert hashes[0] != hashes[1]


def banks_in(folder, target):
    """Options of pix2pix-zero with two banks in a folder; the target bank contains two phrases about a word."""
    for name, word in (("source", "cat"), ("target", target)):
        (folder / f"{name}.txt").write_text(f"a photo of a {word}\n{word}\n")
    return {f"{name}_bank": str(folder / f"{name}.txt") for name in ("source", "target")}


@pytest.mark.parametrize("given", ["inversion", "method"])
def test_a_changed_file_is_read_again_by_the_next_edit(sd, photo, given):
    banks = banks_in(photo.parent, "dog")
    inverted = sd.invert(photo, "red cat", method="pix2pix-zero", steps=2, **banks)
    edit = {} if given == "inversion" else {"methods": [("pix2pix-zero", banks)]}
    first = inverted.edit(**edit)
    banks_in(photo.parent, "fox")
    second = inverted.edit(**edit)
    for result, word in ((first, "dog"), (second, "fox")):
        banks_in(photo.parent, word)
        alone = sd.invert(photo, "red cat", method="pix2pix-zero", steps=2).edit(**banks)
        assert np.array_equal(result.pixels[0], alone.pixels[0])
        assert result.recipes[0]["files"] == alone.recipes[0]["files"]
    assert first.recipes[0]["files"] != second.recipes[0]["files"]


@pytest.mark.parametrize("combined", [False, True])
def test_files_may_change_or_disappear_after_they_were_read(sd, photo, combined):
    banks = banks_in(photo.parent, "dog")
    inverted = sd.invert(photo, "red cat", method="pix2pix-zero", steps=3)
    # The skipped steps of the first method apply to the second one, whose parameters are created again.
    edit = {"methods": ["pullback", ("pix2pix-zero", banks)], "skip": 1} if combined else banks
    wanted = inverted.edit(**edit)
    run = inverted.edit_steps(**edit)
    next(iter(run))
    photo.with_name("source.txt").unlink()
    banks_in(photo.parent, "fox")
    photo.with_name("source.txt").unlink()
    assert run.result.recipes == wanted.recipes
    assert np.array_equal(run.result.pixels[0], wanted.pixels[0])


def test_mask_hash_is_computed_from_its_pixels(sd, photo):
    inverted = sd.invert(photo, "red cat", steps=2)
    white = np.full((32, 32), 255, np.uint8)
    found = []
    for levels in (white, np.triu(white)):
        Image.fromarray(levels).save(photo.with_name("mask.png"))
        found.append(inverted.edit("blue cat", skip=1, mask=photo.with_name("mask.png")).recipes[0]["mask"])
    assert found[0]["name"] == found[1]["name"] == "mask.png"
    assert found[0]["sha256"] == sha256(b"32x32" + white.tobytes()).hexdigest() != found[1]["sha256"]


def test_file_options_are_listed_in_files(method):
    """Options marked `file`, except those that name folders of networks, and options that end in _file or _bank."""
    networks = ("vit_folder", "clip_folder", "content_encoder", "style_encoder")
    objects = ("restyle", "objects_from")
    for each in options_of(method.params).values():
        if (each.metadata["file"] and each.name not in networks) or each.name.endswith(("_file", "_bank")):
            text = "cat: folder/name: a cat" if each.name in objects else "folder/name"
            assert list(method.params(**{each.name: text}).files) == ["folder/name"], each.name


def test_folder_hash_equals_hash_of_sha256sum_output(tmp_path):
    for name, text in (("b.txt", "two"), ("a.txt", "one")):
        (tmp_path / name).write_text(text)
    lines = "".join(f"{hash_of(tmp_path / name)}  {name}\n" for name in ("a.txt", "b.txt"))
    (used,) = files_used(Folder(network=str(tmp_path)))["files"]
    assert used == {"option": "network", "name": tmp_path.name, "sha256": sha256(lines.encode()).hexdigest()}


@dataclass(frozen=True, eq=False)
class Painted(Shift):
    """A shift with fields of all kinds."""

    strength: float
    words: tuple[str, ...]
    table: str
    weights: torch.Tensor
    mixed: list
    first: int | None = None
    twice: bool = True
    seen: int = field(default=7, init=False)


class Plain(Shift):
    """A shift that is no dataclass."""

    def __init__(self):
        self.strength = 0.5


def test_recipe_contains_the_plain_fields_of_shifts(sd, tmp_path):
    shifts = [Painted(0.5, ("cat", "dog"), str(tmp_path / "t.txt"), torch.ones(2), [1, torch.ones(1)]), Plain()]
    fields = {"strength": 0.5, "words": ["cat", "dog"], "table": "t.txt", "first": None, "twice": True}
    expected = [{"shift": "Painted", "fields": fields}, {"shift": "Plain"}]
    for result in (
        sd.invert(IMAGE, "red cat", steps=2).edit("blue cat", methods=[], shifts=shifts),
        sd.generate("red cat", shifts=shifts, steps=2),
    ):
        result.save(tmp_path / "out.png", 0)
        assert read_recipe(tmp_path / "out.png")["methods"] == expected
