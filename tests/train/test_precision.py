"""TF32 is off in the steps of an fp32 recipe, and the caller's torch settings are restored after each step."""

import dataclasses
import json
import logging
import time

import pytest
import torch
from accelerate.state import AcceleratorState

from sfumato.errors import BadInput
from sfumato.train.fastest import with_fastest_precision
from sfumato.train.loop import Run
from sfumato.train.precision import arithmetic
from sfumato.train.start import build_task, start
from sfumato.train.task import Phase
from tests.train.small import AUTOENCODER, small_recipe
from tests.train.toy import Regression, ToyTask, toy_recipe


def settings():
    return torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision


@pytest.fixture(params=["none", "tf32"])
def callers(request):
    """The caller's settings: TF32 for convolutions and, with "tf32", for matrix products."""
    before = settings()
    torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision = request.param, "tf32"
    yield settings()
    torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision = before


class Noting(ToyTask):
    """Records torch's settings when a batch is drawn; with `fail`, drawing raises an error."""

    def __init__(self, fail=False):
        super().__init__()
        self.met, self.fail = [], fail

    def batch(self, generator, size):
        self.met.append(settings())
        if self.fail:
            raise OSError("no such image")
        return super().batch(generator, size)


@pytest.mark.parametrize(("precision", "expected"), [("fp32", ("ieee", "ieee")), ("bf16", None)])
def test_steps_of_fp32_are_without_tf32(callers, tmp_path, precision, expected):
    task, between = Noting(), []
    for _ in Run(task, toy_recipe(2, precision=precision), tmp_path, "cpu").steps():
        between.append(settings())
    assert task.met == [expected or callers] * 2
    assert between == [callers] * 2
    assert settings() == callers


def test_settings_are_restored_after_an_error(callers, tmp_path):
    task = Noting(fail=True)
    with pytest.raises(OSError, match="no such image"):
        list(Run(task, toy_recipe(2), tmp_path, "cpu").steps())
    assert (task.met, settings()) == ([("ieee", "ieee")], callers)


def test_older_tf32_settings_can_be_read_afterwards():
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    with arithmetic("fp32"):
        pass
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == before


def test_task_is_built_with_the_recipe_precision(callers, image_folder, tmp_path, monkeypatch):
    met = []
    recipe = small_recipe("autoencoder", image_folder, 1, AUTOENCODER)
    monkeypatch.setattr("sfumato.train.start.load_recipe", lambda *_: recipe)
    monkeypatch.setattr("sfumato.train.start.build_task", lambda *given: met.append(settings()) or build_task(*given))
    start(tmp_path / "recipe.toml", tmp_path / "run", device="cpu")
    assert met == [("ieee", "ieee")]
    assert settings() == callers


def test_unavailable_precision_is_refused(tmp_path):
    Run(ToyTask(), toy_recipe(1), tmp_path / "one", "cpu")
    with pytest.raises(BadInput, match=r"run\.precision = 'bf16' cannot be used here"):
        Run(ToyTask(), toy_recipe(1, precision="bf16"), tmp_path / "two", "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_missing_device_is_refused(tmp_path):
    (tmp_path / "recipe.toml").write_text('kind = "autoencoder"\n')
    with pytest.raises(BadInput, match="finds no CUDA device"):
        start(tmp_path / "recipe.toml", tmp_path / "run", device="cuda")


class Slow(torch.autograd.Function):
    """The identity, with a slow backward pass if `slow`."""

    @staticmethod
    def forward(ctx, x, slow):
        ctx.slow = slow
        return x

    @staticmethod
    def backward(ctx, gradient):
        time.sleep(0.05 if ctx.slow else 0)
        return gradient, None


class Slowed(Regression):
    """Slow in all precisions but one."""

    def __init__(self, fast):
        super().__init__()
        self.fast = fast

    def forward(self, batch):
        loss, scalars = super().forward(batch)
        now = "bf16" if torch.is_autocast_enabled("cpu") else "fp32"
        return Slow.apply(loss, now != self.fast), scalars


class Preferring(ToyTask):
    """A task that is faster in one precision."""

    def __init__(self, fast):
        super().__init__()
        self.phases = [Phase("first", Slowed(fast))]


@pytest.mark.parametrize("fast", ["fp32", "bf16"])
def test_auto_selects_the_faster_precision(tmp_path, caplog, fast):
    task = Preferring(fast)
    before = {name: value.clone() for name, value in task.phases[0].module.state_dict().items()}
    with caplog.at_level(logging.WARNING):
        run = Run(task, toy_recipe(2, precision="auto"), tmp_path, "cpu")
    assert run.recipe.run.precision == fast
    assert f"run.precision = 'auto': using {fast} (seconds per step: fp32 " in caplog.text
    assert all(torch.equal(value, before[name]) for name, value in task.phases[0].module.state_dict().items())
    assert all(parameter.grad is None for parameter in task.phases[0].module.parameters())
    list(run.steps())
    assert json.loads((tmp_path / "recipe.json").read_text())["run"]["precision"] == fast
    assert all(value.dtype == torch.float32 for value in task.phases[0].module.state_dict().values())


class Large(Regression):
    """Runs out of memory in some precisions."""

    def __init__(self, fails):
        super().__init__()
        self.fails = fails

    def forward(self, batch):
        if ("bf16" if torch.is_autocast_enabled("cpu") else "fp32") in self.fails:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return super().forward(batch)


@pytest.mark.parametrize(("fails", "fits"), [(("fp32",), "bf16"), (("bf16",), "fp32")])
def test_auto_selects_the_precision_that_fits(tmp_path, fails, fits):
    task = ToyTask()
    task.phases = [Phase("first", Large(fails))]
    run = Run(task, toy_recipe(2, precision="auto"), tmp_path, "cpu")
    assert run.recipe.run.precision == fits
    list(run.steps())


def test_batch_that_fits_in_no_precision_is_refused(tmp_path):
    task = ToyTask()
    task.phases = [Phase("first", Large(("fp32", "bf16")))]
    with pytest.raises(BadInput, match=r"optim\.batch = 4 does not fit into the memory .*: lower it"):
        Run(task, toy_recipe(2, precision="auto"), tmp_path, "cpu")


def test_explicit_precision_is_not_measured(tmp_path, monkeypatch):
    monkeypatch.setattr("sfumato.train.fastest._time", lambda *_: pytest.fail("measured"))
    assert Run(ToyTask(), toy_recipe(1, precision="bf16"), tmp_path, "cpu").recipe.run.precision == "bf16"


def test_much_slower_precision_is_measured_once(tmp_path, monkeypatch):
    passes = []
    slow = {"fp32": 1.0, "bf16": 4.0}
    monkeypatch.setattr(
        "sfumato.train.fastest._pass", lambda m, b, precision, d: passes.append(precision) or slow[precision]
    )
    assert Run(ToyTask(), toy_recipe(1, precision="auto"), tmp_path, "cpu").recipe.run.precision == "fp32"
    assert passes == ["fp32", "fp32", "fp32", "bf16"]


def test_resumed_run_keeps_the_measured_precision(tmp_path, monkeypatch):
    """On the same kind of processor; another one may be faster in another precision."""
    recipe = toy_recipe(2, precision="auto")
    for _ in Run(Preferring("bf16"), recipe, tmp_path, "cpu").steps():
        break
    with monkeypatch.context() as only:
        only.setattr("sfumato.train.fastest._time", lambda *_: pytest.fail("measured"))
        assert Run(Preferring("fp32"), recipe, tmp_path, "cpu").recipe.run.precision == "bf16"
    monkeypatch.setattr("sfumato.train.fastest.processor", lambda _: "another")
    AcceleratorState._reset_state(reset_partial_state=True)  # otherwise a process trains in one precision only
    assert Run(Preferring("fp32"), recipe, tmp_path, "cpu").recipe.run.precision == "fp32"


def test_phases_that_share_a_network_are_copied_together(image_folder, tmp_path, monkeypatch):
    """Otherwise the discriminator in the copy of one phase would stay on another device than that of the other."""
    copies = []
    monkeypatch.setattr("sfumato.train.fastest._pass", lambda module, *_: copies.append(module) or 1.0)
    recipe = small_recipe("autoencoder", image_folder, 1, AUTOENCODER, adversarial=0.5, discriminator_layers=1)
    recipe = dataclasses.replace(recipe, run=dataclasses.replace(recipe.run, precision="auto"))
    recipe.loss["adversarial_start"] = 0
    task = build_task(recipe, tmp_path)
    with_fastest_precision(recipe, task, torch.device("cpu"))
    reconstruction, discrimination = copies[0], copies[3]
    assert reconstruction is not task.phases[0].module
    assert reconstruction._discriminator[0] is discrimination.discriminator is not task.phases[1].module.discriminator
