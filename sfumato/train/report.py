"""What a trained pipeline can do, in numbers: the figures in the shipped model's README.

python -m sfumato.train.report FOLDER --recipe recipes/emoji-diffusion.toml --out report.json
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sfumato.core.guidance import Guided
from sfumato.core.loop import fresh_noise, reverse
from sfumato.core.noise import gaussian_batch
from sfumato.data.dataset import CaptionedImages
from sfumato.errors import BadInput
from sfumato.files import write_text
from sfumato.metrics import DualEncoder, feature_distance, psnr, r_precision, ssim
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.models.load import bundled_path, load_model
from sfumato.train.dataset import open_data, save_grid
from sfumato.train.recipe import Recipe, load_recipe

SPLITS = ("train", "cells", "test")


def report(
    model: DiffusionModel, judge: DualEncoder, recipe: Recipe, count: int, strength: float, steps: int
) -> dict[str, Any]:
    """Figures on the pictures of a recipe, for each split.

    Args:
        model: the pipeline.
        judge: the dual encoder that the features come from.
        recipe: its [data] table chooses the pictures; it is what the diffusion model was trained on.
        count: pictures of each split, at most.
        strength: guidance of the generated pictures.
        steps: sampling steps of the generated pictures (DDIM, eta 0).

    Returns:
        for each split `autoencoder` (psnr in dB, ssim) and `retrieval` (R-precision at 1 among 100, or among all
        captions where there are fewer, of real and of generated pictures), `frechet` of each split's generated
        pictures to its real ones, and `seconds_per_image`.
    """
    everything = recipe_for_everything(recipe)
    figures: dict[str, Any] = {"strength": strength, "steps": steps}
    for split in SPLITS:
        whole = subset(open_data(everything, split), count)
        figures[split] = {"all styles": real_figures(model, judge, *whole)}
        images, captions = subset(open_data(recipe, split), count)
        began = time.perf_counter()
        drawn = generate(model, captions, recipe.data.size, strength, steps)
        seconds = (time.perf_counter() - began) / len(captions)
        features = judge.image_features(drawn)
        figures[split]["trained styles"] = real_figures(model, judge, images, captions) | {
            "generated r_precision": retrieval(judge, features, captions),
            "generated frechet": round(feature_distance(features, judge.image_features(images)), 4),
            "seconds per image": round(seconds, 3),
        }
    return figures


def recipe_for_everything(recipe: Recipe) -> Recipe:
    """The same data folder and size, with nothing filtered out."""
    return replace(recipe, data=type(recipe.data)(folder=recipe.data.folder, size=recipe.data.size))


def subset(data: CaptionedImages, count: int) -> tuple[Tensor, list[str]]:
    """`count` pictures, float [n,3,h,w] in [0,1], and their captions, drawn without repetition by a fixed seed."""
    rows = np.random.default_rng(0).permutation(len(data))[:count]
    return torch.from_numpy(data.images[rows]).float() / 255, [data.captions[row] for row in rows]


def real_figures(model: DiffusionModel, judge: DualEncoder, images: Tensor, captions: Sequence[str]) -> dict[str, Any]:
    """How well the autoencoder keeps real pictures, and how well the dual encoder names them."""
    decoded = torch.cat([model.decode(model.encode(part * 2 - 1)) for part in images.split(32)])
    decoded = (decoded.clamp(-1, 1) + 1) / 2
    return {
        "pictures": len(images),
        "autoencoder psnr": round(float(psnr(images, decoded).mean()), 3),
        "autoencoder ssim": round(float(ssim(images, decoded).mean()), 4),
        "r_precision": retrieval(judge, judge.image_features(images), captions),
    }


def retrieval(judge: DualEncoder, features: Tensor, captions: Sequence[str]) -> dict[str, Any]:
    """R-precision at 1 among 100 captions, or among all where there are fewer."""
    candidates = min(100, len(set(captions)))
    value = r_precision(features, judge.text_features(captions), captions, candidates)
    return {"at 1": round(value, 4), "candidates": candidates}


@torch.no_grad()
def generate(model: DiffusionModel, captions: Sequence[str], size: int, strength: float, steps: int) -> Tensor:
    """One picture for each caption, float [n,3,size,size] in [0,1]; picture i has the seed i."""
    timesteps, shape = model.schedule.timesteps(steps), model.latent_shape(size, size)
    pictures = []
    for first in range(0, len(captions), 25):
        texts = list(captions[first : first + 25])
        seeds = list(range(first, first + len(texts)))
        guided = Guided(model, model.condition([""] * len(texts)), (strength,) * len(texts))
        x = gaussian_batch(shape, seeds, step=len(model.schedule), tag="report", device=model.device)
        for state in reverse(guided, x, timesteps, model.condition(texts), eta=0.0, noise_maps=fresh_noise(seeds)):
            x = state.x_prev
        pictures.append((model.decode(x).clamp(-1, 1).cpu() + 1) / 2)
    return torch.cat(pictures)


def show(model: DiffusionModel, recipe: Recipe, path: Path, strength: float, steps: int, count: int = 32) -> None:
    """Write real pictures above what the model draws for their captions."""
    images, captions = subset(open_data(recipe, "train"), count)
    drawn = generate(model, captions, recipe.data.size, strength, steps)
    rows = [row for k in range(0, count, 16) for row in (images[k : k + 16] * 2 - 1, drawn[k : k + 16] * 2 - 1)]
    save_grid(path, rows, f"real above drawn, {steps} steps, guidance {strength}")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure a pipeline folder and write the figures as JSON."""
    parser = argparse.ArgumentParser(description="Measure a trained pipeline.")
    parser.add_argument("model", help="bundled name or pipeline folder with dual_encoder/")
    parser.add_argument("--recipe", required=True, help="the diffusion recipe; its [data] chooses the pictures")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file")
    parser.add_argument("--count", type=int, default=200, help="pictures of each split (default 200)")
    parser.add_argument("--strength", type=float, default=4.0, help="guidance (default 4)")
    parser.add_argument("--steps", type=int, default=25, help="sampling steps (default 25)")
    parser.add_argument("--grid", type=Path, help="also draw this PNG of real and generated pictures")
    choice = parser.parse_args(argv)
    try:
        model, recipe = load_model(choice.model), load_recipe(choice.recipe, "diffusion")
        folder = Path(choice.model) if Path(choice.model).is_dir() else bundled_path(choice.model)
        judge = DualEncoder.load(folder / "dual_encoder")
        figures = report(model, judge, recipe, choice.count, choice.strength, choice.steps)
        if choice.grid:
            show(model, recipe, choice.grid, choice.strength, choice.steps)
    except BadInput as error:
        parser.exit(2, f"{error}\n")
    write_text(choice.out, json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
