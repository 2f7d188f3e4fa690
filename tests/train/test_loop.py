"""The training loop in one process: what a step does, how a run ends, and what is written."""

import dataclasses
import os
import signal
import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from sfumato.errors import BadInput
from sfumato.train.checkpoint import newest_checkpoint
from sfumato.train.interrupt import Interrupt
from sfumato.train.loop import Run
from sfumato.train.processes import refuse_different_steps
from sfumato.train.seeds import step_generator
from tests.files.disk import largest_file
from tests.train.toy import Broken, ToyTask, contents, each_step, equal, run_of, toy_recipe


class Slices(ToyTask):
    """Returns the same eight items in turn for every batch size."""

    def __init__(self):
        super().__init__()
        draw = torch.Generator().manual_seed(5)
        self.x, self.served = torch.randn(8, 4, generator=draw), 0

    def batch(self, generator, size):
        x = self.x.roll(-self.served, dims=0)[:size]
        self.served = (self.served + size) % 8
        return {"x": x, "y": x.roll(1, dims=1)}


def test_accumulated_micro_batches_equal_the_big_batch(tmp_path):
    weights, norms = [], []
    for batch, accumulate in ((8, 1), (2, 4), (1, 8)):
        run = run_of(tmp_path / f"{batch}", 6, Slices(), batch=batch, accumulate=accumulate)
        reports = list(run.steps())
        weights.append(torch.cat([p.flatten() for p in run.task.phases[0].module.parameters()]).detach())
        norms.append([report.scalars["first/gradient"] for report in reports])
        assert reports[-1].samples == 48
    torch.testing.assert_close(weights[1], weights[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(weights[2], weights[0], rtol=1e-5, atol=1e-6)
    assert norms[1] == pytest.approx(norms[0], rel=1e-5)
    assert norms[2] == pytest.approx(norms[0], rel=1e-5)


def test_all_micro_batches_are_different(tmp_path):
    drawn = []

    def note(task, step, batch):
        drawn.append(batch["x"][0, 0].item())

    list(run_of(tmp_path, 3, Broken(note, second=0), accumulate=2).steps())
    assert len(set(drawn)) == len(drawn) == 3 * 2 * 2


def test_steps_equal_adamw_with_clipping_and_ema(tmp_path):
    run = run_of(tmp_path, 3, warmup=1, clip=0.01, lr=0.1, weight_decay=0.5)
    twin = ToyTask().phases[0].module
    optim = run.recipe.optim
    kinds = [[p for p in twin.parameters() if (p.ndim > 1) == matrix] for matrix in (True, False)]
    groups = [{"params": kinds[0], "weight_decay": 0.5}, {"params": kinds[1], "weight_decay": 0.0}]
    adam = torch.optim.AdamW(groups, lr=0.1, betas=optim.betas)
    average = [p.detach().clone() for p in twin.parameters()]
    for number, _ in enumerate(run.steps(), 1):
        adam.zero_grad()
        twin(batch_at(run, number - 1))[0].backward()
        nn.utils.clip_grad_norm_(twin.parameters(), 0.01)
        adam.step()
        decay = min(optim.ema, number / (9 + number)) if number > 1 else 0.0
        average = [a * decay + p.detach() * (1 - decay) for a, p in zip(average, twin.parameters(), strict=True)]
    for mine, theirs in zip(run.task.phases[0].module.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)
    for mine, theirs in zip(run.trained.ema["first"].shadow_params, average, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)


def batch_at(run, step):
    generator = step_generator(run.recipe.seed, step, 0, tag="first")
    return run.task.batch(generator, run.recipe.optim.batch)


@pytest.mark.parametrize("second", [None, 4])
def test_interrupted_run_equals_an_uninterrupted_one(tmp_path, second):
    list(run_of(tmp_path / "whole", 11, ToyTask(second=second)).steps())
    for stop in (2, 5, 6):
        for report in run_of(tmp_path / "pieces", 11, ToyTask(second=second)).steps():
            if report.step == stop:
                break
    with pytest.raises(ZeroDivisionError):
        each_step(run_of(tmp_path / "pieces", 11, ToyTask(second=second)), lambda report: 1 / 0)
    run = run_of(tmp_path / "pieces", 11, ToyTask(second=second))
    assert run.step == 7
    list(run.steps())
    (one, state), (two, other) = contents(tmp_path / "whole"), contents(tmp_path / "pieces")
    assert state == other
    assert equal(one, two)
    assert second is None or len(two["second.optimizer"]) > 0


def test_global_random_state_is_unchanged(tmp_path):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    list(run_of(tmp_path, 3).steps())
    assert torch.equal(before, torch.get_rng_state())


def test_weights_are_determined_by_the_seed(tmp_path):
    runs = [run_of(tmp_path / str(i), 3) for i in range(2)]
    for run in runs:
        list(run.steps())
    assert equal(contents(tmp_path / "0")[0], contents(tmp_path / "1")[0])
    other = Run(ToyTask(), dataclasses.replace(toy_recipe(3), seed=1), tmp_path / "2", "cpu")
    list(other.steps())
    assert not equal(contents(tmp_path / "0")[0], contents(tmp_path / "2")[0])


@pytest.mark.parametrize("minutes", [0.0, 1e-4])
def test_time_limit_ends_the_run_with_a_checkpoint(tmp_path, minutes):
    run = run_of(tmp_path, 1_000_000)
    done = list(run.steps(minutes))
    assert len(done) < 1_000_000
    assert newest_checkpoint(tmp_path / "checkpoints").name == f"step-{len(done):08d}"
    assert run_of(tmp_path, 1_000_000).step == len(done)


def test_signal_between_two_steps_is_not_lost(tmp_path):
    run, instructions, at = run_of(tmp_path, 3), 0, -1

    def trace(frame, event, argument):
        nonlocal instructions
        if frame.f_code is not Run._stop.__code__:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            if instructions == at:
                signal.raise_signal(signal.SIGTERM)
            instructions += 1
        return trace

    def is_requested():
        nonlocal instructions
        instructions, before = 0, sys.gettrace()
        with Interrupt() as interrupt:
            sys.settrace(trace)
            run._stop(0.0, None, interrupt)
            sys.settrace(before)
            return interrupt.requested

    assert not is_requested()
    assert instructions > 20
    lost = []
    for at in range(instructions):
        lost += [] if is_requested() else [at]
    assert not lost


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_finishes_the_step_and_writes_a_checkpoint(tmp_path, number):
    before = signal.getsignal(number)
    run, seen = run_of(tmp_path, 100, checkpoint_every=50), []

    def tell(report):
        seen.append(report.step)
        if report.step == 4:
            os.kill(os.getpid(), number)

    with pytest.raises(KeyboardInterrupt):
        each_step(run, tell)
    assert seen == [1, 2, 3, 4]
    assert newest_checkpoint(tmp_path / "checkpoints").name == "step-00000004"
    assert signal.getsignal(number) == before


def test_exception_within_a_step_writes_no_checkpoint(tmp_path):
    def fault(task, step, batch):
        if step == 9:  # the second phase's batch of step 4
            raise OSError("no such image")

    with pytest.raises(OSError, match="no such image"):
        list(run_of(tmp_path, 20, Broken(fault, second=0)).steps())
    assert newest_checkpoint(tmp_path / "checkpoints").name == "step-00000003"


def test_full_disk_is_reported_and_keeps_the_previous_checkpoint(tmp_path):
    run = run_of(tmp_path, 20)
    steps = run.steps()
    for _ in range(4):
        next(steps)

    with largest_file(1500), pytest.raises(BadInput, match=r"writing-00000006/.*File too large\): make room there"):
        list(steps)
    assert run_of(tmp_path, 20).step == 3


def test_another_kind_or_network_in_the_folder_is_refused(tmp_path):
    list(run_of(tmp_path, 2).steps())
    with pytest.raises(BadInput, match=r"kind 'toy'.*own folder"):
        Run(ToyTask(), dataclasses.replace(toy_recipe(2), kind="autoencoder"), tmp_path, "cpu")
    task = ToyTask()
    task.phases[0].module.network = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 4))
    with pytest.raises(BadInput, match="does not match the networks of the recipe"):
        run_of(tmp_path, 2, task)


def test_resuming_with_another_bound_value_is_refused(tmp_path):
    task = ToyTask()
    list(run_of(tmp_path, 2, task).steps())  # like an older run without bound values
    task.bound_to = {"encoder": "a"}
    list(run_of(tmp_path, 4, task).steps())
    assert run_of(tmp_path, 4, task).step == 4
    task.bound_to = {"encoder": "b"}
    with pytest.raises(BadInput, match=r"were trained with another encoder \(a, now b\); .*own folder"):
        run_of(tmp_path, 4, task)


def test_new_phase_of_the_recipe_starts_from_scratch(tmp_path):
    list(run_of(tmp_path, 4).steps())
    run = run_of(tmp_path, 5, ToyTask(second=2))
    assert run.step == 4
    assert "second/loss" in next(iter(list(run.steps()))).scalars
    again = run_of(tmp_path, 8, ToyTask(second=2))
    assert (again.step, again.trained.ema["second"].optimization_step) == (5, 1)


def test_damaged_newest_checkpoint_resumes_from_the_previous_one(tmp_path):
    list(run_of(tmp_path / "damaged", 6).steps())
    list(run_of(tmp_path / "whole", 9).steps())
    weights = newest_checkpoint(tmp_path / "damaged" / "checkpoints") / "first.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    run = run_of(tmp_path / "damaged", 9)
    assert run.step == 3
    list(run.steps())
    assert equal(contents(tmp_path / "damaged")[0], contents(tmp_path / "whole")[0])


def test_samples_are_drawn_at_their_interval(tmp_path):
    list(run_of(tmp_path, 6, sample_every=4).steps())
    assert [p.name for p in (tmp_path / "samples").iterdir()] == ["4.txt"]


def test_export_uses_ema_weights_and_restores_the_weights(tmp_path):
    run = run_of(tmp_path, 5)
    list(run.steps())
    module = run.task.phases[0].module
    own = [p.detach().clone() for p in module.parameters()]
    run.export(tmp_path / "export")
    exported = torch.load(tmp_path / "export" / "weights.pt", weights_only=True)
    shadow = dict(zip((n for n, _ in module.named_parameters()), run.trained.ema["first"].shadow_params, strict=True))
    assert all(torch.equal(exported[name], value) for name, value in shadow.items())
    assert all(torch.equal(p, q) for p, q in zip(module.parameters(), own, strict=True))
    assert not torch.equal(own[0], run.trained.ema["first"].shadow_params[0])


def test_processes_that_read_different_checkpoints_are_refused(tmp_path):
    accelerator = SimpleNamespace(device="cpu", gather=lambda mine: torch.cat([mine, torch.tensor([8, 3])]))
    with pytest.raises(BadInput, match=r"different steps \(3, 8\) in .*that all machines share"):
        refuse_different_steps(accelerator, 3, tmp_path)
