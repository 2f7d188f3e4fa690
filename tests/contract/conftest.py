"""Fixtures: every registered method, tiny models of every layout, and inversions."""

from collections.abc import Callable
from pathlib import Path

import pytest

import sfumato
from sfumato.api import Model
from sfumato.editing.registry import METHODS
from tests.contract.composed import IMAGES, SOURCE, STEPS, maker
from tests.contract.images import IMAGE, OTHER


@pytest.fixture(scope="session")
def models(tiny_folder: Callable[[str], Path]) -> Callable[[str], Model]:
    """The loaded model of a layout, shared by all tests; test_methods.py checks that methods leave it unchanged."""
    loaded: dict[str, Model] = {}

    def model(layout: str) -> Model:
        if layout not in loaded:
            loaded[layout] = sfumato.load(str(tiny_folder(layout)))
        return loaded[layout]

    return model


@pytest.fixture
def model(models, layout, request) -> Model:
    """The model of each layout in turn; tests of methods that need text skip the models without a text encoder."""
    loaded = models(layout)
    of_method = "method" in request.fixturenames and request.getfixturevalue("method")
    if of_method and of_method.params.needs_text and not loaded.network.takes_text:
        pytest.skip("the method needs text")
    return loaded


@pytest.fixture(params=list(METHODS))
def method(request):
    """Each method in turn."""
    return METHODS.find(request.param)


@pytest.fixture(scope="module")
def sd(models) -> Model:
    """A Stable Diffusion model with a few thousand weights."""
    return models("sd")


@pytest.fixture(scope="module")
def inverted(sd):
    """Two images, inverted together."""
    return sd.invert([IMAGE, OTHER], ["red cat", "blue dog"], steps=8, exact=True)


@pytest.fixture(scope="module")
def inverted_by(sd):
    """The images with the given indices, inverted by the named inversion; each result is computed once."""
    made = {}

    def inverted(kind, indices=(0, 1)):
        if (kind, indices) not in made:
            images, prompts = [IMAGES[n] for n in indices], [SOURCE[n] for n in indices]
            made[kind, indices] = sd.invert(images, prompts, method=maker(kind).name, steps=STEPS, seed=list(indices))
        return made[kind, indices]

    return inverted
