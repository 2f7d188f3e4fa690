"""A training task of a few hundred weights, with two phases as a patch GAN has, for the tests of the loop."""

from pathlib import Path

import torch
from torch import nn

from sfumato.train.checkpoint import newest_checkpoint, read_checkpoint
from sfumato.train.loop import Run
from sfumato.train.recipe import OptimRecipe, Recipe, RunRecipe
from sfumato.train.task import Batch, Phase


class Regression(nn.Module):
    """A small network that predicts the batch's y from its x."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 4))

    def forward(self, batch: Batch):
        error = (self.network(batch["x"]) - batch["y"]).square().mean()
        return error, {"error": error.detach()}


class ToyTask:
    """Learns y = x W from noisy pairs; the second phase starts at `second`."""

    def __init__(self, seed: int = 0, second: int | None = None) -> None:
        self.bound_to, self.image_count = {}, 0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.phases = [Phase("first", Regression())]
            if second is not None:
                self.phases.append(Phase("second", Regression(), start=second))

    def batch(self, generator: torch.Generator, size: int) -> Batch:
        x = torch.randn(size, 4, generator=generator)
        return {"x": x, "y": x.roll(1, dims=1) + 0.1 * torch.randn(size, 4, generator=generator)}

    def sample(self, folder: Path, step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{step}.txt").write_text("sample")

    def export(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(self.phases[0].module.state_dict(), folder / "weights.pt")


class Broken(ToyTask):
    """Calls `fault(task, n, batch)` on the n-th batch that is drawn, counted from 0 over all phases."""

    def __init__(self, fault, second=None):
        super().__init__(second=second)
        self.fault, self.drawn = fault, 0

    def batch(self, generator, size):
        batch = super().batch(generator, size)
        replaced = self.fault(self, self.drawn, batch)
        self.drawn += 1
        return replaced or batch


def toy_recipe(steps: int = 10, **changes) -> Recipe:
    """fp32, no warm-up, a checkpoint every 3 steps; `changes` are applied to the optim or the run table."""
    run = {"steps": steps, "checkpoint_every": 3, "sample_every": 1000, "log_every": 1, "precision": "fp32"}
    optim = {"batch": 4, "lr": 1e-2, "warmup": 5, "clip": 1.0, "ema": 0.9}
    for name, value in changes.items():
        (optim if name in OptimRecipe.__dataclass_fields__ else run)[name] = value
    return Recipe(kind="toy", optim=OptimRecipe(**optim), run=RunRecipe(**run))


def run_of(folder, steps=10, task=None, **changes):
    return Run(task or ToyTask(), toy_recipe(steps, **changes), folder, "cpu")


def each_step(run, do):
    for report in run.steps():
        do(report)


def contents(folder):
    return read_checkpoint(newest_checkpoint(folder / "checkpoints"))


def equal(one, two):
    return one.keys() == two.keys() and all(
        one[file].keys() == two[file].keys() and all(torch.equal(one[file][k], two[file][k]) for k in one[file])
        for file in one
    )
