"""The bundled PARASOL file, its encoders, and their use by name."""

import json
from pathlib import Path

import numpy as np
import pytest

import sfumato
from sfumato.examples import examples
from sfumato.models.bundled import BUNDLED, bundled_parasol
from sfumato.style.describers import Describers
from sfumato.style.tokens import Parasol


@pytest.fixture(scope="module")
def emoji():
    return sfumato.load("emoji", "cpu")


def test_file_belongs_to_the_bundled_model_and_encoders(emoji):
    saved = Parasol.load(bundled_parasol("emoji"))
    saved.check_model(emoji.network)
    saved.check_describers(Describers.load())
    assert bundled_parasol("nosuch") is None
    assert bundled_parasol("descriptors") is None, "a folder that is no model"


def test_the_name_selects_the_bundled_file(emoji, sfumato_command):
    fox, face = (str(each.path) for each in examples()[1:3])
    made = sfumato_command("style", fox, face, "-o", "out.png", "--steps", 3, "--lam", 1, "--json")
    assert made.code == 0, made.err
    inverted = emoji.invert(fox, "", method="parasol", steps=3)
    named = inverted.edit("", parasol="emoji", style=face, lam=1)
    given = inverted.edit("", parasol=str(bundled_parasol("emoji")), style=face, lam=1)
    assert np.array_equal(named.pixels[0], given.pixels[0])
    assert np.array_equal(named.pixels[0], sfumato.images.read_image("out.png").rgb)
    assert [each["name"] for each in named.recipes[0]["files"]] == [Path(face).name]
    again = sfumato_command("edit", fox, "--recipe", "out.png", "-o", "again.png")
    assert again.code == 0, again.err


def test_package_stays_small():
    size = sum(each.stat().st_size for each in BUNDLED.rglob("*") if each.is_file())
    assert size <= 80e6, json.dumps(size)
