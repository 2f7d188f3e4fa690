"""The wheel contains the package with its model, images and licences, and nothing else."""

import os
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LARGEST = 100_000_000


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built without network access by the packages of this environment."""
    if find_spec("hatchling") is None or find_spec("pip") is None:
        pytest.skip("hatchling or pip is not installed here: pip install -c constraints.txt -e '.[dev]'")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", str(ROOT), "--no-deps", "--no-build-isolation", "--no-index", "-q"]
    done = subprocess.run([*command, "-w", str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = folder.iterdir()
    return path


def names(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_wheel_contains_every_file_of_the_package(wheel):
    ours = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "sfumato").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    inside = {name for name in names(wheel) if name.startswith("sfumato/")}
    assert inside == ours
    kinds = {
        "sfumato/py.typed",
        "sfumato/bundled/emoji/unet/diffusion_pytorch_model.safetensors",
        "sfumato/bundled/emoji/vae/diffusion_pytorch_model.safetensors",
        "sfumato/bundled/emoji/text_encoder/model.safetensors",
        "sfumato/bundled/emoji/dual_encoder/model.safetensors",
        "sfumato/bundled/emoji/sfumato.json",
        "sfumato/examples/examples.json",
        "sfumato/examples/heart.png",
        "sfumato/data/emoji/licences/Apache-2.0.txt",
    }
    assert kinds <= inside


def test_wheel_has_only_licences_and_metadata_besides_the_package(wheel):
    others = {name for name in names(wheel) if not name.startswith("sfumato/")}
    folder = next(iter(others)).partition("/")[0]
    assert folder.endswith(".dist-info")
    expected = ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE", "licenses/THIRD_PARTY.md")
    assert others == {f"{folder}/{name}" for name in expected}
    with zipfile.ZipFile(wheel) as archive:
        assert "sfumato = sfumato.cli:main" in archive.read(f"{folder}/entry_points.txt").decode()
        assert archive.read(f"{folder}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()


def test_wheel_is_smaller_than_100_megabytes(wheel):
    assert wheel.stat().st_size < LARGEST


def test_unpacked_wheel_runs(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "sfumato", "models", "path", "emoji"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.stdout == f"{tmp_path}/sfumato/bundled/emoji\n", done.stderr
