"""A PARASOL file that is selected by the name of a bundled model."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import sfumato
from sfumato.bench.settings import Setting, resolved
from sfumato.images import read_image
from sfumato.models import bundled
from sfumato.models.bundled import bundled_parasol
from sfumato.regular_files import content_hash
from sfumato.style.describers import Describers


@pytest.fixture
def small(tiny_folder, saved, tmp_path, monkeypatch):
    """The name of a bundled model that has a PARASOL file."""
    place = tmp_path / "package"
    shutil.copytree(tiny_folder("sd"), place / "small")
    shutil.copy(saved, place / "small")
    (place / "other").mkdir()
    monkeypatch.setattr(bundled, "BUNDLED", place)
    return "small"


def test_only_models_with_a_file_have_one(small):
    assert bundled_parasol(small) is not None
    assert bundled_parasol("other") is None
    assert bundled_parasol("nosuch") is None


def test_the_name_selects_the_file(small, sfumato_command, encoders, style_image):
    """Also in recipes and benchmarks, and next to a folder with that name."""
    Path(small).mkdir()
    own = {"content_encoder": str(encoders[0]), "style_encoder": str(encoders[1])}
    flags = ["--content-encoder", encoders[0], "--style-encoder", encoders[1], "--model", small]
    made = sfumato_command("style", "photo.png", "style.png", "-o", "out.png", "--steps", 3, *flags)
    assert made.code == 0, made.err
    model = sfumato.load(small, "cpu")
    inverted = model.invert("photo.png", "", method="parasol", steps=3)
    named = inverted.edit("", parasol=small, style="style.png", **own)
    given = inverted.edit("", parasol=str(bundled_parasol(small)), style="style.png", **own)
    assert np.array_equal(named.pixels[0], given.pixels[0])
    assert np.array_equal(named.pixels[0], read_image("out.png").rgb)
    assert "parasol.safetensors" not in {each["name"] for each in named.recipes[0]["files"]}
    again = sfumato_command("edit", "photo.png", "--recipe", "out.png", "-o", "again.png", *flags)
    assert again.code == 0, again.err
    assert np.array_equal(read_image("again.png").rgb, named.pixels[0])
    files = resolved(Setting("row", "parasol", {"parasol": small, "style": "style.png"} | own), model).files
    assert files[small] == content_hash(bundled_parasol(small)), "not the folder of that name"


def test_bundled_encoders_are_the_default():
    describers = Describers.load()
    assert describers.content.size == 128
    assert describers.content.dimension == describers.style.dimension == 128
