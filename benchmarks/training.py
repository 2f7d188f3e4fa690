"""Training speed of a latent diffusion model: sfumato's loop and a plain loop on the same network, in one run.

    python benchmarks/training.py --recipe recipes/emoji-128-diffusion.toml  --threads 1 --out out/training.json

The plain loop runs the steps of diffusers' text-to-image training script (examples/text_to_image): fp32, fused
attention, torch's AdamW, gradient clipping and EMA. Both train the U-Net and the text encoder of the
recipe on the same random latents and captions, so that only the training step is compared: precision, memory layout,
attention, optimizer. The loops alternate (A B A B ...), so that load on the machine slows both; samples per second are
those of the median step. `--quick` is a smoke test on a tiny network.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
from diffusers import UNet2DConditionModel
from diffusers.training_utils import EMAModel
from torch.nn import functional as F
from transformers import CLIPTextModel, CLIPTokenizer

from benchmarks.report import add_measuring, environment, measured, publish, table
from benchmarks.rounds import seconds_of
from sfumato.train.attention import use_fastest_attention
from sfumato.train.conditioning import build_text_encoder
from sfumato.train.denoising import Denoising
from sfumato.train.loop import Run
from sfumato.train.noise import DiffusionLoss, noise_scheduler
from sfumato.train.recipe import OptimRecipe, Recipe, RunRecipe, fill, load_recipe
from sfumato.train.task import Batch, Phase
from sfumato.train.tokenizer import train_tokenizer
from sfumato.train.unet import DiffusionNetwork, build_unet

COLUMNS = ("samples/s", "seconds per step", "times the plain loop", "precision")
QUICK = {"channels": (16, 32), "heads": (2, 4), "groups": 8, "text": {"width": 64, "layers": 1, "vocabulary": 600}}


class Synthetic:
    """The task of a diffusion recipe on random latents and token ids."""

    image_count = 0

    def __init__(self, recipe: Recipe, side: int, channels: int, device: str) -> None:
        self.bound_to: dict[str, str] = {}
        self.shape = (channels, side, side)
        self.network = fill(DiffusionNetwork, recipe.network, "network")
        self.loss = fill(DiffusionLoss, recipe.loss, "loss")
        self.scheduler = noise_scheduler(self.loss)
        self.tokenizer = train_tokenizer(["a red disc"], self.network.text.vocabulary, self.network.text.context)
        self.unet, self.text = build(self.network, self.tokenizer, side, channels, recipe.seed)
        for network in (self.unet, self.text):
            use_fastest_attention(network, device)
        self.phases = (Phase("unet", Denoising(self.unet, self.scheduler, self.loss, self.text)),)

    def batch(self, generator: torch.Generator, size: int) -> Batch:
        """A batch of random latents, noise, timesteps and token ids."""
        x0, eps = torch.randn(2, size, *self.shape, generator=generator)
        context, words = self.network.text.context, len(self.tokenizer)
        return {
            "x0": x0, "eps": eps, "t": torch.randint(0, 1000, (size,), generator=generator),
            "ids": torch.randint(0, words, (size, context), generator=generator),
        }  # fmt: skip

    def sample(self, folder: Path, step: int) -> None:
        """Do nothing: no samples are drawn."""

    def export(self, folder: Path) -> None:
        """Do nothing: nothing is exported."""


def build(
    network: DiffusionNetwork, tokenizer: CLIPTokenizer, side: int, channels: int, seed: int
) -> tuple[UNet2DConditionModel, CLIPTextModel]:
    """The U-Net and the text encoder of a recipe, freshly initialised."""
    text = build_text_encoder(network.text, tokenizer, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_unet(network, channels, side, text.config.hidden_size), text


def plain_loop(task: Synthetic, recipe: Recipe, device: str) -> Iterator[None]:
    """Run the steps of diffusers' script, yielding after each."""
    unet, text = build(task.network, task.tokenizer, task.shape[1], task.shape[0], recipe.seed)
    trained = torch.nn.ModuleList([unet, text]).to(device).train()
    optimizer = torch.optim.AdamW(trained.parameters(), lr=recipe.optim.lr, weight_decay=recipe.optim.weight_decay)
    average = EMAModel(trained.parameters(), decay=recipe.optim.ema)
    average.to(device)
    generator = torch.Generator().manual_seed(recipe.seed)
    while True:
        batch = {name: value.to(device) for name, value in task.batch(generator, recipe.optim.batch).items()}
        noisy = task.scheduler.add_noise(batch["x0"], batch["eps"], batch["t"])
        target = task.scheduler.get_velocity(batch["x0"], batch["eps"], batch["t"])
        states = text(batch["ids"]).last_hidden_state
        loss = F.mse_loss(unet(noisy, batch["t"], encoder_hidden_states=states).sample, target)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained.parameters(), recipe.optim.clip)
        optimizer.step()
        optimizer.zero_grad()
        average.step(trained.parameters())
        yield


def as_table(seconds: dict[str, list[float]], batch: int, precision: str) -> str:
    """Markdown table: samples per second of the median step, and speed relative to the plain loop."""
    steps = {name: median(each) for name, each in seconds.items()}
    used = {"sfumato": precision, "plain loop": "fp32"}
    return table(
        COLUMNS,
        {
            name: [f"{batch / each:.1f}", f"{each:.3f}", f"{steps['plain loop'] / each:.2f}", used[name]]
            for name, each in steps.items()
        },
    )


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--recipe", default="recipes/emoji-128-diffusion.toml", help="a diffusion recipe")
    flags.add_argument("--side", type=int, default=16, help="side of the latents")
    flags.add_argument("--channels", type=int, default=4, help="latent channels")
    flags.add_argument("--batch", type=int, help="samples per step; default the recipe's")
    add_measuring(flags, repeats=10)
    return flags.parse_args(words)


def settled(given: argparse.Namespace) -> Recipe:
    """The recipe without checkpoints, samples and logs."""
    recipe = load_recipe(given.recipe, "diffusion")
    network = dict(recipe.network) | (QUICK if given.quick else {}) | {"autoencoder": "", "evaluator": ""}
    network["text"] = dict(network.get("text", {})) | {"start": "", "frozen": False}  # random weights are as fast
    optim = replace(recipe.optim, batch=given.batch or (2 if given.quick else recipe.optim.batch))
    never = RunRecipe(
        steps=1 << 40, checkpoint_every=1 << 40, sample_every=1 << 40, log_every=1 << 40,
        precision=recipe.run.precision, channels_last=recipe.run.channels_last,
    )  # fmt: skip
    return replace(recipe, network=network, optim=optim, run=never)


def compare(given: argparse.Namespace) -> tuple[dict[str, list[float]], OptimRecipe, str]:
    """Measure both loops alternately, after one step to warm up.

    Returns:
        Seconds of the steps of each loop, the optimizer's settings, and the precision of sfumato.
    """
    recipe = settled(given)
    task = Synthetic(recipe, given.side, given.channels, given.device)
    plain = plain_loop(task, recipe, given.device)
    with tempfile.TemporaryDirectory() as folder, closing(Run(task, recipe, Path(folder), given.device)) as run:
        precision, steps = run.recipe.run.precision, run.steps()
        contenders: dict[str, Iterator[object]] = {"sfumato": steps, "plain loop": plain}
        seconds: dict[str, list[float]] = {name: [] for name in contenders}
        for each in contenders.values():
            next(each)
        for n in range(given.repeats):
            print(f"round {n + 1} of {given.repeats} ...", file=sys.stderr, flush=True)
            for name, each in contenders.items():
                seconds[name].append(seconds_of(lambda each=each: next(each), given.device))  # type: ignore[misc]
        steps.close()
    return seconds, recipe.optim, precision


def work(given: argparse.Namespace) -> None:
    """Measure, print and write the results."""
    seconds, optim, precision = compare(given)
    everything = {"environment": environment(given.device), "batch": optim.batch, "seconds": seconds}
    publish(given, as_table(seconds, optim.batch, precision), everything)


def main(words: Sequence[str] | None = None) -> int:
    """Run the script. Returns an exit code."""
    return measured("training", arguments(words), work)


if __name__ == "__main__":
    sys.exit(main())
