"""Fixtures: valid model folders to be damaged, and a guard that detects forbidden calls."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import save_file

from sfumato.metrics.convnets import squeezenet
from tests.attacks.guard import Guard
from tests.metrics import encoders
from tests.metrics.test_text import save_clip
from tests.models.original_layout import write_checkpoint


@pytest.fixture(scope="module", autouse=True)
def _read_every_time(read_every_time: None) -> None:
    """Read every network from its files instead of the session's cache."""


@pytest.fixture(scope="session")
def bases(tiny_folder, tmp_path_factory) -> dict[str, Path]:
    """A valid model folder of every kind."""
    root = tmp_path_factory.mktemp("bases")
    save_clip(root / "clip")
    for kind in ("dinov2", "vit"):
        (root / kind).mkdir()
        encoders.save(kind, root / kind)
    (root / "single").mkdir()
    write_checkpoint(tiny_folder("sd"), root / "single" / "model.safetensors")
    (root / "squeezenet").mkdir()
    save_file(squeezenet().state_dict(), root / "squeezenet" / "model.safetensors")
    return {each.name: each for each in root.iterdir()} | {each: tiny_folder(each) for each in ("sd", "ddpm")}


@pytest.fixture
def copy(bases, tmp_path) -> Callable[[str], Path]:
    """A function that copies one of these folders, to be damaged by a test."""
    return lambda base: shutil.copytree(bases[base], tmp_path / "model" / base)


@pytest.fixture
def guard(tmp_path, monkeypatch) -> Guard:
    return Guard(tmp_path, monkeypatch)
