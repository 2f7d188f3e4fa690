"""A run stops before a step with a non-finite value and reports its origin; fp16 may overflow for some steps."""

from contextlib import nullcontext
from itertools import pairwise

import pytest
import torch
from accelerate.optimizer import AcceleratedOptimizer
from torch import nn

from sfumato.errors import BadInput, NonFinite
from sfumato.train.checkpoint import newest_checkpoint, valid_checkpoints
from sfumato.train.task import Phase
from tests.train.toy import Broken, ToyTask, contents, each_step, run_of


def nan_in_data(task, step, batch):
    if step == 5:
        batch["x"][1, 2] = float("nan")


def nan_in_weights(task, step, batch):
    if step == 5:
        with torch.no_grad():
            task.phases[0].module.network[2].weight[0, 0] = float("inf")


def overflow(task, step, batch):
    if step == 5:
        batch["x"].fill_(1e38)
        batch["y"].fill_(-3e38)


@pytest.mark.parametrize(
    ("fault", "named"),
    [(nan_in_data, "batch's 'x'"), (nan_in_weights, "network.2.weight"), (overflow, "the forward pass overflowed")],
)
def test_non_finite_loss_stops_before_the_step(tmp_path, fault, named):
    run = run_of(tmp_path, 20, Broken(fault))
    with pytest.raises(NonFinite, match=r"first loss is not finite at step 5") as caught:
        list(run.steps())
    assert named in str(caught.value)
    assert str(caught.value).endswith(f"and the newest checkpoint in {tmp_path} is finite.")
    assert [p.name for p in valid_checkpoints(tmp_path / "checkpoints")] == ["step-00000003"]
    for tensors in contents(tmp_path)[0].values():
        assert all(torch.isfinite(value).all() for value in tensors.values())
    with pytest.raises(BadInput, match="interrupted within a step"):
        list(run.steps())


def test_message_says_that_there_is_no_checkpoint_yet(tmp_path):
    def fault(task, step, batch):
        batch["x"][0] = float("nan")

    with pytest.raises(NonFinite, match=r"did not take this step, and there is no checkpoint yet\.$"):
        list(run_of(tmp_path, 20, Broken(fault)).steps())


class Root(nn.Module):
    """Finite loss 0, infinite gradient."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))

    def forward(self, batch):
        at_zero = self.weight - self.weight.detach()
        return at_zero.abs().sqrt().sum() if int(batch["step"]) == 4 else self.weight.square().sum(), {}


def test_non_finite_gradient_stops_before_the_optimizer_step(tmp_path):
    task = ToyTask()
    task.phases = [Phase("first", Root())]
    run = run_of(tmp_path, 20, task)
    weights = []
    with pytest.raises(NonFinite, match=r"gradient is not finite at step 4: the gradient of 'weight'"):
        each_step(run, lambda _: weights.append(task.phases[0].module.weight.detach().clone()))
    assert torch.equal(task.phases[0].module.weight, weights[-1])
    assert newest_checkpoint(tmp_path / "checkpoints").name == "step-00000003"


@pytest.mark.parametrize(
    ("where", "named"),
    [
        ("weight", "first loss"),
        ("ema", "'00001' of first.ema"),
        ("optimizer", "'network.0.weight' of first is"),
    ],
)
def test_checkpoint_with_a_non_finite_tensor_is_not_written(tmp_path, where, named):
    run = run_of(tmp_path, 20)

    def spoil(report):
        if report.step == 2:
            tensor = {
                "weight": next(run.task.phases[0].module.parameters()).data,
                "ema": run.trained.ema["first"].shadow_params[1],
                "optimizer": next(iter(run.trained.optimizers["first"].state.values()))["exp_avg"],
            }[where]
            tensor.view(-1)[0] = float("nan")

    with pytest.raises(NonFinite, match=named):
        each_step(run, spoil)
    assert run.step == (2 if where == "weight" else 3)
    assert newest_checkpoint(tmp_path / "checkpoints") is None


class Overflowing(ToyTask):
    """Simulates fp16 overflow in float32: the gradients of the steps in `bad` are infinite."""

    def __init__(self, bad):
        super().__init__()
        weight = self.phases[0].module.network[0].weight
        weight.register_hook(lambda gradient: gradient * (float("inf") if self.step in bad else 1.0))
        self.step = -1

    def batch(self, generator, size):
        self.step += 1
        return super().batch(generator, size)


@pytest.fixture
def scaled(tmp_path, monkeypatch):
    """A run with fp16's gradient scaler, installed by hand because accelerate creates it on accelerators only."""

    def build(task, steps=40):
        run = run_of(tmp_path, steps, task)
        accelerator = run.accelerator
        accelerator.scaler, accelerator.native_amp = torch.amp.GradScaler("cpu"), True
        monkeypatch.setattr(type(accelerator), "mixed_precision", "fp16")
        monkeypatch.setattr(accelerator, "autocast", nullcontext)
        for name, optimizer in run.trained.optimizers.items():
            run.trained.optimizers[name] = AcceleratedOptimizer(optimizer.optimizer, scaler=accelerator.scaler)
        accelerator._optimizers = list(run.trained.optimizers.values())
        return run

    return build


def test_fp16_skips_steps_that_overflow(scaled, tmp_path):
    run = scaled(Overflowing({3, 4}), steps=9)
    weights = [
        torch.cat([p.detach().flatten().clone() for p in run.task.phases[0].module.parameters()]) for _ in run.steps()
    ]
    moved = [not torch.equal(one, two) for one, two in pairwise(weights)]
    assert moved == [True, True, False, False, True, True, True, True]
    assert run.accelerator.scaler.get_scale() == 2.0**14
    state = contents(tmp_path)[1]
    assert state["scaler"]["scale"] == 2.0**14
    assert run.step == 9


def test_fp16_clips_the_unscaled_gradient(scaled, tmp_path):
    norms = [report.scalars["first/gradient"] for report in scaled(ToyTask(), 3).steps()]
    plain = [report.scalars["first/gradient"] for report in run_of(tmp_path / "plain", 3).steps()]
    assert norms == pytest.approx(plain, rel=1e-4)


def test_fp16_stops_when_every_scale_overflows(scaled, tmp_path):
    with pytest.raises(NonFinite, match=r"gradient is not finite at step 21: the gradient of 'network.0.weight'"):
        list(scaled(Overflowing(range(5, 1000)), steps=100).steps())
    assert run_of(tmp_path, 100).step == 21


def test_fp16_on_the_cpu_is_refused(tmp_path):
    with pytest.raises(BadInput, match="needs a GPU"):
        run_of(tmp_path, precision="fp16")
