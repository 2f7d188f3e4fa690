"""What two processes do in test_processes.py; run under torchrun, and once more alone for comparison.

Each scenario gets its own folder. Alone, a batch is what the two processes draw, one after the other.
"""

import json
import os
import signal
import sys
from pathlib import Path

import torch

from sfumato.errors import NonFinite
from sfumato.train.adversarial import Discrimination, PatchDiscriminator
from sfumato.train.autoencoder import AutoencoderLoss, AutoencoderNetwork, Reconstruction, build_autoencoder
from sfumato.train.loop import Run
from sfumato.train.seeds import step_generator
from sfumato.train.task import Phase
from tests.train.toy import ToyTask, toy_recipe

SIZE = 24


class TinyGan(ToyTask):
    """An autoencoder with its patch GAN, from the third step on, on noise."""

    def __init__(self) -> None:
        loss = AutoencoderLoss(adversarial=0.5, adversarial_start=2, discriminator_channels=8)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = build_autoencoder(AutoencoderNetwork(f=2, channels=(8, 8), groups=4, latent_channels=2), SIZE)
            critic = PatchDiscriminator(8, 3)
        reconstruction = Reconstruction(network, loss, discriminator=critic)
        self.phases = [
            Phase("autoencoder", reconstruction),
            Phase("discriminator", Discrimination(critic, reconstruction), start=2),
        ]

    def batch(self, generator, size):
        pixels = torch.rand(size, 3, SIZE, SIZE, generator=generator) * 2 - 1
        return {"pixels": pixels, "noise": torch.randn(size, 2, SIZE // 2, SIZE // 2, generator=generator)}


class Together(Run):
    """One process that sees what two would draw."""

    def _batch(self, phase, micro):
        halves = []
        for rank in range(2):
            generator = step_generator(self.recipe.seed, self.step, rank, tag=phase.name, micro=micro)
            halves.append(self.task.batch(generator, self.recipe.optim.batch))
        both = {name: torch.cat([half[name] for half in halves]) for name in halves[0]}
        return both | {"step": torch.tensor(self.step)}


def spread(run: Run) -> float:
    """Largest difference of any weight or average between the processes."""
    worst = 0.0
    for phase in run.task.phases:
        for tensor in [*phase.module.parameters(), *run.averages[phase.name].shadow_params]:
            both = run.accelerator.gather(tensor.detach()[None])
            worst = max(worst, float((both - both[:1]).abs().max()))
    return worst


def equality(kind: type[Run], task, folder: Path, **changes) -> dict:
    run = kind(task, toy_recipe(6, **changes), folder, "cpu")
    list(run.steps())
    return {"spread": spread(run), "step": run.step, "samples": run.samples}


def bounded(folder: Path) -> dict:
    run = Run(ToyTask(), toy_recipe(1_000_000, checkpoint_every=1000), folder, "cpu")
    list(run.steps(minutes=0.003))
    again = Run(ToyTask(), toy_recipe(1_000_000), folder, "cpu")
    return {"step": run.step, "resumed": again.step, "spread": spread(again)}


def not_finite(folder: Path, where: str, rank: int) -> dict:
    """Process 1 alone meets a NaN in step 4."""
    task = ToyTask()

    def fault(generator, size):
        batch = ToyTask.batch(task, generator, size)
        if run.step == 4 and rank == 1:
            if where == "data":
                batch["x"][0, 0] = float("nan")
            else:
                next(task.phases[0].module.parameters()).data[0, 0] = float("nan")
        return batch

    task.batch = fault
    run = Run(task, toy_recipe(20), folder, "cpu")
    try:
        list(run.steps())
    except NonFinite as error:
        return {"stopped": str(error), "step": run.step}
    return {"stopped": "", "step": run.step}


def signalled(folder: Path, rank: int) -> dict:
    """Process 1 alone is told to stop."""
    run = Run(ToyTask(), toy_recipe(1000, checkpoint_every=500), folder, "cpu")
    try:
        for report in run.steps():
            if report.step == 5 and rank == 1:
                os.kill(os.getpid(), signal.SIGTERM)
    except KeyboardInterrupt:
        return {"interrupted": True, "step": run.step}
    return {"interrupted": False, "step": run.step}


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    rank, alone = int(os.environ.get("RANK", 0)), "RANK" not in os.environ
    kind = Together if alone else Run
    report = {
        "toy": equality(kind, ToyTask(second=3), folder / "toy", accumulate=2),
        "gan": equality(kind, TinyGan(), folder / "gan", batch=2, lr=1e-5),
    }
    if not alone:
        report["minutes"] = bounded(folder / "minutes")
        report["data"] = not_finite(folder / "data", "data", rank)
        report["weight"] = not_finite(folder / "weight", "weight", rank)
        report["signal"] = signalled(folder / "signal", rank)
    (folder / f"report-{rank}.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
