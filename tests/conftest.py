"""Shared test setup: no access to the hub, one torch thread, and tiny pipelines built once per session."""

import gc
import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import diffusers_speed, shape_checks

shape_checks.install()

from tests import loaded_once, tiny  # noqa: E402 - import packages to check

torch.set_num_threads(1)
diffusers_speed.install()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run slow modules first.

    pytest-xdist moves tests from the end of the list to the worker that is done first, which repeats the fixtures of
    their modules. Those of slow modules are slow, too.
    """
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_collection_finish() -> None:
    """Exclude all imported objects from garbage collection, which saves time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _networks_are_read_once() -> Iterator[None]:
    """See `loaded_once`."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        loaded_once.install(monkeypatch)
        yield


@pytest.fixture(scope="module")
def read_every_time(_networks_are_read_once: None) -> Iterator[None]:
    """Read networks from their files in every call, for tests of loading."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        loaded_once.uninstall(monkeypatch)
        yield


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny pipeline by its layout (a name in `tiny.LAYOUTS`), built on first use."""
    root = tmp_path_factory.mktemp("tiny")

    def folder(layout: str) -> Path:
        if not (root / layout).exists():
            tiny.LAYOUTS[layout](root / layout)
        return root / layout

    return folder


@pytest.fixture(scope="session")
def tiny_sd_folder(tiny_folder: Callable[[str], Path]) -> Path:
    """Stable Diffusion 1.x, epsilon."""
    return tiny_folder("sd")


@pytest.fixture(scope="session")
def tiny_sd2_folder(tiny_folder: Callable[[str], Path]) -> Path:
    """Stable Diffusion 2.x, v-prediction."""
    return tiny_folder("sd2")


@pytest.fixture(scope="session")
def tiny_sdxl_folder(tiny_folder: Callable[[str], Path]) -> Path:
    """Stable Diffusion XL."""
    return tiny_folder("sdxl")


@pytest.fixture(scope="session")
def tiny_ddpm_folder(tiny_folder: Callable[[str], Path]) -> Path:
    """Pixel-space DDPM."""
    return tiny_folder("ddpm")


@pytest.fixture
def install_method(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., None]:
    """Install a third-party package with a method for one test; see `tests.third_party.method`."""
    from sfumato.editing.registry import METHODS
    from tests import third_party

    folder = tmp_path_factory.mktemp("packages")
    third_party.read_again(monkeypatch, METHODS)

    def add(package: str, name: str, **code: Any) -> None:
        third_party.install(monkeypatch, folder, METHODS, name, third_party.method(name, **code), package)

    return add


@pytest.fixture(scope="session", params=list(tiny.LAYOUTS))
def layout(request: pytest.FixtureRequest) -> str:
    """Each layout's name in turn."""
    return str(request.param)


@pytest.fixture(scope="session")
def layout_folder(layout: str, tiny_folder: Callable[[str], Path]) -> Path:
    """Each layout's folder in turn."""
    return tiny_folder(layout)
