"""Discovery of training tasks: each is one file, of this package or of a third-party package."""

import json
from pathlib import Path

import pytest

import sfumato.train
from sfumato.cli import main
from sfumato.errors import BadInput
from sfumato.train.diffusion import DiffusionTask
from sfumato.train.registry import TASKS, task
from sfumato.train.start import start
from tests import third_party

RECIPE = 'kind = "identity"\n[run]\nsteps = 2\nprecision = "fp32"\n'


@pytest.fixture
def recipe(tmp_path) -> Path:
    (tmp_path / "recipe.toml").write_text(RECIPE)
    return tmp_path / "recipe.toml"


def test_tasks_of_this_package_are_registered():
    assert list(TASKS) == ["autoencoder", "content", "delta-h", "diffusion", "dual-encoder", "parasol", "style"]
    assert TASKS["diffusion"] is DiffusionTask
    with pytest.raises(BadInput, match="the kind of training 'diffusion' is registered twice"):
        task("diffusion")(DiffusionTask)


def test_task_file_is_discovered(monkeypatch, tmp_path, recipe):
    (tmp_path / "identity.py").write_text(third_party.TASK)
    third_party.read_again(monkeypatch, TASKS)
    monkeypatch.setattr(sfumato.train, "__path__", [*sfumato.train.__path__, str(tmp_path)])
    run = start(recipe, tmp_path / "run", device="cpu")
    assert [report.step for report in run.steps()] == [1, 2]


def test_the_command_trains_a_task_of_another_package(monkeypatch, tmp_path, recipe, capsys):
    third_party.install(monkeypatch, tmp_path, TASKS, "identity", third_party.TASK)
    assert main(["train", "--help"]) == 0
    assert "dual-encoder, identity, parasol" in " ".join(capsys.readouterr().out.split())
    words = ["identity", str(recipe), "--out", str(tmp_path / "run"), "--device", "cpu", "--json"]
    assert main(["train", *words]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["kind"], found["step"]) == ("identity", 2)
    assert (tmp_path / "run" / "export" / "weights.pt").is_file()


def test_broken_package_is_reported_when_its_task_is_used(monkeypatch, tmp_path, recipe, capsys):
    third_party.install(monkeypatch, tmp_path, TASKS, "identity", "import nosuch", package="failing")
    assert main(["train", "identity", str(recipe), "--out", str(tmp_path / "run")]) == 2
    assert "the kind of training 'identity' of the package failing cannot be loaded" in capsys.readouterr().err
    with pytest.raises(BadInput, match="there is no kind of training 'gan'; choose from autoencoder"):
        TASKS.find("gan")
