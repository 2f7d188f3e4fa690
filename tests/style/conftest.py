"""Fixtures: those of the training and command-line tests, small encoders and a PARASOL file."""

from pathlib import Path

import pytest

import sfumato
from sfumato.models.load import load_model
from sfumato.style.describers import Describers
from tests import tiny
from tests.cli.conftest import folder  # noqa: F401
from tests.cli.conftest import sfumato as sfumato_command  # noqa: F401
from tests.style.small import save_both, save_parasol
from tests.train.conftest import _fresh_accelerator, image_folder  # noqa: F401


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


@pytest.fixture(scope="module")
def api_model(tiny_folder):
    return sfumato.load(str(tiny_folder("sd")))


@pytest.fixture
def options(saved, encoders):
    return {"parasol": str(saved), "content_encoder": str(encoders[0]), "style_encoder": str(encoders[1])}


@pytest.fixture
def style_image(tmp_path):
    tiny.tiny_image(24, 24, seed=5).save(tmp_path / "style.png")
    return str(tmp_path / "style.png")
