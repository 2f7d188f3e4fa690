"""The bundled PARASOL file: it fits the bundled model and encoders, and its edits bring the style nearer."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import sfumato
from sfumato.cli import main
from sfumato.errors import BadInput
from sfumato.examples import examples
from sfumato.images import read_image, read_recipe, write_image
from sfumato.metrics import Evaluator
from sfumato.models.bundled import bundled_parasol
from sfumato.options.parasol import ParasolParams
from sfumato.style.describers import Describers
from sfumato.style.tokens import Parasol

pytestmark = pytest.mark.slow

EXAMPLES = {each.path.stem: each for each in examples()}


@pytest.fixture(scope="module")
def model():
    return sfumato.load("emoji")


def test_it_fits_the_bundled_model_and_encoders(model):
    saved = Parasol.load(bundled_parasol("emoji"))
    saved.check_model(model.network)
    saved.check_describers(Describers.load())
    assert bundled_parasol("sd") is None


def test_names_of_bundled_files_are_not_files():
    params = ParasolParams(parasol="emoji", style_text="noto")
    params.check()
    assert params.files == []
    assert params.saved is not None
    with pytest.raises(BadInput, match=r"nothing\.safetensors"):
        _ = ParasolParams(parasol="nothing.safetensors").saved


def test_edit_has_the_style_of_the_style_image(model):
    """The style of the edit is nearer to that of the style image, in which none of the sources is drawn, than the style
    of the reconstruction."""
    evaluator = replace(Evaluator.load(), style=Describers.load().style)
    names, target = ("fox", "cat"), EXAMPLES["face"]
    sources = [EXAMPLES[name] for name in names]
    images, prompts = [each.path for each in sources], [each.source for each in sources]
    inverted = model.invert(images, prompts, method="parasol", steps=20)
    options = {"parasol": "emoji", "style": {str(target.path): 1.0}, "residual": False}
    pixels_of = [np.asarray(Image.open(path).convert("RGB")) for path in images]
    style = torch.from_numpy(np.asarray(Image.open(target.path).convert("RGB")).copy()).permute(2, 0, 1) / 255

    def distance(pixels):
        both = (torch.from_numpy(np.stack(each)).permute(0, 3, 1, 2) / 255 for each in (pixels_of, pixels))
        return evaluator(*both, style=[style] * len(names))["style_mse"]

    kept = distance(inverted.edit("", **options | {"lam": 20}).pixels)
    assert (distance(inverted.edit("", **options | {"lam": 0}).pixels) < kept).all()


def test_style_command_uses_the_bundled_file(tmp_path, capsys):
    fox, face = (str(EXAMPLES[name].path) for name in ("fox", "face"))
    out = str(tmp_path / "styled.png")
    assert main(["style", fox, face, "-o", out, "--steps", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["parameters"]["parasol"] == "emoji"


def test_recipe_of_an_edit_with_the_bundled_file_is_repeated(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("fox", "face"):
        shutil.copy(EXAMPLES[name].path, f"{name}.png")
    assert main(["style", "fox.png", "face.png", "-o", "out.png", "--steps", "2", "--invert-with", "own-tokens"]) == 0
    assert main(["edit", "--recipe", "out.png", "-o", "again.png"]) == 0
    assert np.array_equal(*(np.asarray(Image.open(name).convert("RGB")) for name in ("out.png", "again.png")))
    recipe = read_recipe("out.png")
    stranger = recipe["methods"][0] | {"content_encoder": "emoji"}
    write_image("changed.png", read_image("out.png").rgb, None, recipe | stranger | {"methods": [stranger]})
    assert main(["edit", "--recipe", "changed.png", "-o", "again.png"]) == 2
    assert "needs emoji" in capsys.readouterr().err
