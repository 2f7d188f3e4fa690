"""`sfumato train`: checkpoints, export, resuming, and progress."""

import json
import re
import signal
from pathlib import Path

import pytest

from sfumato.cli import progress
from sfumato.cli import train as command
from tests.tiny import tiny_image

RECIPE = """
kind = "autoencoder"
[data]
folder = "images"
size = 16
[network]
channels = [8, 16]
f = 2
groups = 4
[optim]
batch = 2
[run]
steps = {steps}
precision = "fp32"
checkpoint_every = {every}
sample_every = 1000000
"""


@pytest.fixture
def recipe(folder):
    """A recipe for a tiny autoencoder, and a folder of images for it."""
    (folder / "images").mkdir()
    rows = []
    for n in range(24):
        tiny_image(16, 16, seed=n).save(folder / "images" / f"{n}.png")
        rows.append(json.dumps({"file_name": f"{n}.png", "text": f"image {n}"}))
    (folder / "images" / "metadata.jsonl").write_text("\n".join(rows))

    def write(steps=3, every=1000):
        (folder / "recipe.toml").write_text(RECIPE.format(steps=steps, every=every))
        return "recipe.toml"

    return write


def checkpoints(run="run"):
    return sorted(path.parent.name for path in Path(run).glob("checkpoints/step-*/COMPLETE"))


def train(sfumato, *words):
    return sfumato("train", "autoencoder", "recipe.toml", "--out", "run", "--device", "cpu", *words)


def test_train_ends_with_a_checkpoint_and_an_export(sfumato, recipe):
    recipe(steps=3)
    run = train(sfumato)
    assert run.code == 0, run.err
    assert "step 3, 6 samples: exported to run/export" in run.out
    assert checkpoints() == ["step-00000003"]
    assert (Path("run/export") / "config.json").is_file()


def test_unreadable_image_is_named_and_left_out(sfumato, recipe, caplog):
    recipe(steps=1)
    Path("images/3.png").write_text("no image")
    run = train(sfumato)
    assert run.code == 0, run.err
    named, count = caplog.messages
    assert named.startswith("left out: images/3.png is text")
    assert count == "left out because they cannot be read: 1 of the 23 images of images"


def test_train_resumes_from_the_checkpoint(sfumato, recipe):
    recipe(steps=2)
    train(sfumato)
    recipe(steps=5)
    found = train(sfumato, "--json").json
    assert (found["step"], found["samples"], found["stopped"]) == (5, 10, False)
    assert found["export"] == "run/export"


def test_minutes_limit_the_run(sfumato, recipe):
    recipe(steps=1_000_000)
    found = train(sfumato, "--minutes", 0.005, "--json").json
    assert 0 < found["step"] < 1_000_000
    assert checkpoints() == [f"step-{found['step']:08d}"]


def test_export_only_does_not_train(sfumato, recipe):
    recipe(steps=2)
    assert "no checkpoint" in train(sfumato, "--export-only").err
    train(sfumato)
    found = train(sfumato, "--export-only", "--json").json
    assert (found["step"], found["seconds"]) == (2, 0)


def test_a_recipe_of_another_kind_is_refused(sfumato, recipe):
    recipe()
    assert "of kind 'autoencoder'" in sfumato("train", "diffusion", "recipe.toml", "--out", "run").refused()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_training_with_a_checkpoint(sfumato, recipe, monkeypatch, number):
    recipe(steps=1_000_000)
    state = command._state

    def state_and_signal(run, report, *others):
        if report.step == 4:
            signal.raise_signal(number)
        return state(run, report, *others)

    monkeypatch.setattr(command, "_state", state_and_signal)
    run = train(sfumato)
    assert run.code == 128 + number
    assert run.out == ""
    assert len(run.err.splitlines()) == 1
    assert "step-00000004, and the same command resumes from there" in run.err
    assert checkpoints() == ["step-00000004"]
    assert not Path("run/export").exists()


def test_progress_shows_step_rate_remaining_time_and_loss(sfumato, recipe, monkeypatch):
    monkeypatch.setattr(progress, "_EVERY", 0.0)
    recipe(steps=3)
    lines = train(sfumato).err.splitlines()
    assert len(lines) == 3
    assert re.fullmatch(r"100 %  step 3  [0-9.]+ samples/s  0 s left  .*loss [0-9.]+.*", lines[-1])
