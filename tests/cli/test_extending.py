"""The examples of docs/extending.md, installed as a package: every example runs and is short."""

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sfumato.api import load
from sfumato.core.shift import Shift
from sfumato.editing.registry import METHODS
from sfumato.inversion.registry import INVERSIONS
from sfumato.metrics import METRICS
from sfumato.train.registry import TASKS
from tests import third_party
from tests.metrics.test_text import save_clip
from tests.tiny import tiny_image
from tests.train.conftest import write_image_folder

PAGE = (Path(__file__).parents[2] / "docs" / "extending.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
MODULES = dict(re.findall(r"```python\n# sfumato_examples/(\w+)\.py\n(.*?)```", PAGE, re.DOTALL))
PROJECT, RECIPE = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
MOST_LINES = 39


@pytest.fixture
def examples(monkeypatch, tmp_path_factory):
    """The package of the page, as pip installs it."""
    entries = tomllib.loads(PROJECT)["project"]["entry-points"]
    third_party.install_package(monkeypatch, tmp_path_factory.mktemp("site"), "sfumato_examples", MODULES, entries)
    for registry in (METHODS, INVERSIONS, METRICS, TASKS):
        third_party.read_again(monkeypatch, registry)


@pytest.fixture
def edit(sfumato, tiny_sd_folder):
    def run(*words):
        own = ("edit", "photo.png", "--from", "red cat", "--to", "green cat", "-o", "out.png", "--steps", 4, "--json")
        found = sfumato(*own, "--skip", 1, "--model", tiny_sd_folder, *words)
        assert found.code == 0, found.err
        return found.json

    return run


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.splitlines()[0])
def test_examples_have_fewer_than_40_lines(example):
    """Empty lines are counted, too."""
    assert len(example.splitlines()) <= MOST_LINES


HOOKS = [name for name, hook in vars(Shift).items() if callable(hook)]


@pytest.mark.parametrize("hook", HOOKS)
def test_page_lists_every_hook_of_a_shift(hook):
    assert f"`{hook}`" in PAGE or f"`Shift.{hook}`" in PAGE


def test_page_lists_the_hooks_of_a_step_in_order():
    assert re.findall(r"`(\w+)`", PAGE.partition("calls them, are")[2].partition("The argument")[0]) == [
        hook for hook in HOOKS if f"`Shift.{hook}`" not in PAGE
    ]


@pytest.mark.usefixtures("examples")
def test_doctor_lists_the_examples(sfumato, tiny_sd_folder):
    found = sfumato("doctor", "--model", tiny_sd_folder, "--json").json
    assert {"contrast", "shared-noise"} <= set(found["methods"])
    assert {"shared-noise", "brightness", "preview"} <= {*found["inversions"], *found["metrics"], *found["tasks"]}
    assert found["unloaded"] == []


@pytest.mark.usefixtures("examples")
def test_method_edits_alone_and_with_another(edit, sfumato):
    assert "factor of the deviation" in sfumato("methods", "contrast").out
    edit("--method", "contrast", "--factor", 1.5)
    alone = Path("out.png").read_bytes()
    edit("--method", "contrast", "--factor", 3)
    assert Path("out.png").read_bytes() != alone
    edit("--method", "prompt-to-prompt", "--method", "contrast", "--contrast.factor", 1.5)
    assert Path("out.png").read_bytes() != alone


@pytest.mark.usefixtures("examples")
def test_energy_reduces_the_distance_between_means(tiny_sd_folder):
    from sfumato_examples.mean_colour import KeepMeanColour

    model = load(str(tiny_sd_folder), "cpu")
    inverted = model.invert(tiny_image(32, 32), "red cat", steps=6)
    source = inverted.groups[0].inversion.x0.mean(dim=(2, 3))

    def distance(*shifts):
        steps = inverted.edit_steps("green cat", methods=["edit-friendly"], shifts=shifts, skip=1)
        return (list(steps)[-1].state.x_prev.mean(dim=(2, 3)) - source).square().sum()

    assert distance(KeepMeanColour(20.0)) < distance()


@pytest.mark.usefixtures("examples")
def test_inversion_is_exact_and_shares_its_noise(tiny_sd_folder):
    inverted = load(str(tiny_sd_folder), "cpu").invert(
        tiny_image(32, 32), "red cat", method="shared-noise", steps=6, exact=True, source_guidance_scale=1.0
    )
    again = inverted.edit("red cat", skip=0, guidance_scale=1.0, check=True)
    assert again.report["reconstruction_latent_max_error"] < 1e-5
    levels = inverted.groups[0].inversion
    first, second = (levels.x[i] - levels.x[-1] * abar_of(inverted, i) ** 0.5 for i in (0, 1))
    assert torch.nn.functional.cosine_similarity(first.flatten(), second.flatten(), dim=0) > 0.999


def abar_of(inverted, i):
    return inverted.model.network.schedule.abar(inverted.groups[0].inversion.timesteps[i])


@pytest.mark.usefixtures("examples")
def test_the_metric_is_computed(sfumato, folder):
    tiny_image(30, 22, seed=1).save(folder / "edit.png")
    save_clip(folder / "clip")
    assert sfumato("metrics", "photo.png", "edit.png", "--clip", "clip", "--json").json["metrics"]["brightness"] > 0


@pytest.mark.usefixtures("examples")
def test_the_task_trains_and_exports(sfumato, folder, tiny_sd_folder):
    write_image_folder(folder / "own")
    recipe = RECIPE.replace("data/emoji", "own").replace("size = 128", "size = 32").replace("2000", "3")
    recipe = recipe.replace("runs/emoji-128-autoencoder/export", str(tiny_sd_folder / "vae"))
    (folder / "preview.toml").write_text(recipe + 'precision = "fp32"\nsample_every = 3\n')
    run = sfumato("train", "preview", "preview.toml", "--out", "run", "--device", "cpu", "--json")
    assert (run.code, run.json["step"]) == (0, 3), run.err
    assert Path("run/samples/step-00000003.png").is_file()
    assert load_file("run/export/rgb.safetensors")["weight"].shape == (3, 4, 1, 1)


@pytest.mark.usefixtures("examples")
def test_the_command_runs(sfumato, folder):
    assert "palette      of the package sfumato-examples" in sfumato("--help").out
    assert "sfumato palette fox.png" in sfumato("palette", "--help").out
    tiny_image(30, 22).save(folder / "own.png")
    means = np.asarray(tiny_image(30, 22)).mean(axis=(0, 1))
    lines = sfumato("palette", "own.png").out.splitlines()
    assert lines == [f"{name} {value:.1f}" for name, value in zip("RGB", means, strict=True)]
    assert "no command 'palete'; did you mean 'palette'?" in sfumato("palete").refused()


def test_command_that_cannot_be_imported_is_reported(sfumato, monkeypatch, tmp_path_factory):
    entries = {"sfumato.commands": {"broken": "failing.command"}}
    folder = tmp_path_factory.mktemp("failing")  # bytecode is cached in it
    third_party.install_package(monkeypatch, folder, "failing", {"command": "import nosuch"}, entries)
    assert "the command 'broken' of the package failing cannot be loaded" in sfumato("broken").refused()
    assert sfumato("methods").code == 0
