"""The work of the two processes of test_processes.py under torchrun, and of one process for comparison.

Each scenario has its own folder. A batch of the single process is the concatenation of the batches of the two.
"""

import itertools
import json
import os
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import torch

from sfumato.errors import BadInput, NonFinite
from sfumato.style.describers import Describers
from sfumato.train.adversarial import Discrimination, PatchDiscriminator
from sfumato.train.autoencoder_network import AutoencoderNetwork, build_autoencoder
from sfumato.train.clip_loss import Contrast
from sfumato.train.dataset import open_images
from sfumato.train.dual_encoder_network import DualEncoderNetwork, build_dual_encoder
from sfumato.train.latents import cached_latents, encode_images, kept_statistics
from sfumato.train.loop import Run
from sfumato.train.reconstruction import AutoencoderLoss, Reconstruction
from sfumato.train.seeds import step_generator
from sfumato.train.start import build_task
from sfumato.train.task import Phase, Task
from tests.style.small import parasol_recipe, save_both, write_triplets
from tests.tiny import tiny_sd, tiny_tokenizer
from tests.train.conftest import write_image_folder
from tests.train.small import Stored, small_recipe
from tests.train.toy import ToyTask, toy_recipe

SIZE = 24


class TinyGan(ToyTask):
    """An autoencoder with its patch GAN, from the third step on, on noise."""

    def __init__(self) -> None:
        self.bound_to, self.image_count = {}, 0
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


class TinyClip(ToyTask):
    """A dual encoder on noise; two of the captions of a step are the same, one on each process."""

    def __init__(self) -> None:
        self.bound_to, self.image_count = {}, 0
        shape = DualEncoderNetwork(width=64, image_layers=1, text_layers=1, patch=8, projection=16, context=6)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.clip = build_dual_encoder(shape, SIZE, tiny_tokenizer())
        self.phases = [Phase("dual_encoder", Contrast(self.clip))]

    def batch(self, generator, size):
        ids = torch.randint(3, self.clip.config.text_config.eos_token_id, (size, 6), generator=generator)
        ids[0], ids[:, -1] = 7, self.clip.config.text_config.eos_token_id
        pixels = torch.rand(size, 3, SIZE, SIZE, generator=generator) * 2 - 1
        return {"pixels": pixels, "ids": ids, "mask": torch.ones_like(ids)}


def write_parasol_data(folder: Path) -> Path:
    """Write what PARASOL is trained with: images, triplets and tiny networks."""
    images, encoders = write_image_folder(folder / "images"), save_both(folder / "encoders")
    tiny_sd(folder / "model")
    write_triplets(folder / "triplets.parquet", images, Describers.load(*encoders))
    return folder


def parasol_task(data: Path, run: Path) -> Task:
    """PARASOL; all images of a batch are decoded."""
    encoders = data / "encoders" / "content", data / "encoders" / "style"
    recipe = parasol_recipe(data / "triplets.parquet", data / "images", data / "model", encoders, decoded=100)
    return build_task(recipe, run)


class Together(Run):
    """A single process that trains on the batches of both processes."""

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
        for tensor in [*phase.module.parameters(), *run.trained.ema[phase.name].shadow_params]:
            both = run.accelerator.gather(tensor.detach()[None])
            worst = max(worst, float((both - both[:1]).abs().max()))
    return worst


def equality(kind: type[Run], task, folder: Path, steps: int = 6, **changes) -> dict:
    run = kind(task, toy_recipe(steps, **changes), folder, "cpu")
    list(run.steps())
    return {"spread": spread(run), "step": run.step, "samples": run.samples}


def other_images(folder: Path, rank: int) -> dict:
    """Open the images of a folder twice; the second time, process 1 cannot read one of them."""
    data = write_image_folder(folder / str(rank))
    recipe = small_recipe("autoencoder", data, 1, {})
    count = len(open_images(recipe))
    if rank == 1:
        next(data.glob("*.png")).write_bytes(b"no image")
    try:
        open_images(recipe)
    except BadInput as error:
        return {"count": count, "refused": str(error)}
    return {"count": count, "refused": ""}


def bounded(folder: Path, rank: int) -> dict:
    """Process 0's clock advances by a second whenever it is read; that of process 1 stands still."""
    run = Run(ToyTask(), toy_recipe(1_000_000, checkpoint_every=1000), folder, "cpu")
    seconds = itertools.count(0, 1 - rank)
    with mock.patch("sfumato.train.loop.time", SimpleNamespace(monotonic=lambda: float(next(seconds)))):
        list(run.steps(minutes=0.5))
    again = Run(ToyTask(), toy_recipe(1_000_000), folder, "cpu")
    return {"step": run.step, "resumed": again.step, "spread": spread(again)}


def not_finite(folder: Path, where: str, rank: int) -> dict:
    """Only process 1 has a NaN in step 4."""
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


def signalled(folder: Path, rank: int, steps: int = 1000) -> dict:
    """Only process 1 receives SIGTERM, in step 5."""
    run = Run(ToyTask(), toy_recipe(steps, checkpoint_every=500), folder, "cpu")
    try:
        for report in run.steps():
            if report.step == 5 and rank == 1:
                os.kill(os.getpid(), signal.SIGTERM)
    except KeyboardInterrupt:
        return {"interrupted": True, "step": run.step}
    return {"interrupted": False, "step": run.step}


def cached(folder: Path, rank: int) -> dict:
    """Both processes request the latents of the same images; encoding them takes a while."""
    encoded = 0

    def slowly(*given):
        nonlocal encoded
        encoded += 1
        time.sleep(0.5)
        return encode_images(*given)

    network = TinyGan().phases[0].module.autoencoder
    images = np.random.default_rng(0).integers(0, 256, (5, 3, SIZE, SIZE), np.uint8)
    with mock.patch("sfumato.train.latents.encode_images", slowly):
        latents = cached_latents(network, Stored(images), folder)
    mean, _ = kept_statistics(latents + rank, folder, "0", None)
    kept = bool((mean - latents.mean((0, 2, 3))).abs().max() < 1e-6)
    return {"encoded": encoded, "right": torch.equal(latents, encode_images(network, images)), "kept": kept}


def equalities(kind: type[Run], folder: Path, data: Path) -> dict:
    """The scenarios in which two processes must give the result of one; `data` is that of `write_parasol_data`."""
    return {
        "toy": equality(kind, ToyTask(second=3), folder / "toy", accumulate=2),
        "gan": equality(kind, TinyGan(), folder / "gan", batch=2, lr=1e-5),
        "clip": equality(kind, TinyClip(), folder / "clip", steps=1, batch=3, clip=1e9, checkpoint_every=1),
        "parasol": equality(kind, parasol_task(data, folder / "parasol"), folder / "parasol", batch=3, lr=1e-5),
    }


def main(folder: Path, data: Path) -> None:
    torch.set_num_threads(1)
    rank = int(os.environ["RANK"])
    report = equalities(Run, folder, data) | {
        "minutes": bounded(folder / "minutes", rank),
        "data": not_finite(folder / "data", "data", rank),
        "weight": not_finite(folder / "weight", "weight", rank),
        "cache": cached(folder / "cache", rank),
        "images": other_images(folder / "images", rank),
        "signal": signalled(folder / "signal", rank),
        "last": signalled(folder / "last", rank, steps=5),
    }
    (folder / f"report-{rank}.json").write_text(json.dumps(report))
    Run(ToyTask(), toy_recipe(1), folder / "end", "cpu").close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
