"""Measure how much the caption lowers the loss of a diffusion model, per timestep.

    python -m sfumato.train.caption_report emoji --recipe recipes/emoji-128-diffusion.toml --out captions.json

Real images are diffused to several timesteps, and their noise is predicted with their own caption and with the empty
one. A model that ignores captions has the same loss with both. Noise and timesteps are the same for every model.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sfumato.core.guidance import classifier_free
from sfumato.errors import BadInput
from sfumato.files import write_text
from sfumato.inversion.edit_friendly import independent_latents
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.models.load import load_model
from sfumato.train.dataset import open_images
from sfumato.train.recipe import load_recipe
from sfumato.train.report import SPLITS
from sfumato.train.report_options import check_options

#: Timesteps of the measurement, as fractions of the schedule.
FRACTIONS = (0.1, 0.3, 0.5, 0.7, 0.9)
_BATCH = 32


@torch.no_grad()
def caption_report(model: DiffusionModel, images: Tensor, captions: Sequence[str]) -> dict[str, dict[str, float]]:
    """Loss with the caption and with the empty caption, per timestep.

    Args:
        model: the pipeline.
        images: real images, float [n,3,h,w] in [0,1].
        captions: their captions.

    Returns:
        For each timestep, named by its number: the mean squared error of the predicted noise with the "caption" and
        with the "empty" one; "gap", the fraction of the latter that the caption removes (1 - caption / empty, of the
        means); and "error", its standard error over the images (jackknife).
    """
    timesteps = [round(fraction * len(model.schedule)) for fraction in FRACTIONS]
    losses = torch.cat(
        [
            _losses(model, images[k : k + _BATCH], captions[k : k + _BATCH], timesteps, k)
            for k in range(0, len(images), _BATCH)
        ],
        dim=-1,
    ).double()
    return {str(t): _gap(*losses[i]) for i, t in enumerate(timesteps)}


def _losses(model: DiffusionModel, images: Tensor, captions: Sequence[str], timesteps: list[int], first: int) -> Tensor:
    """Mean squared errors [timestep, caption or empty, image]; image i has the seed `first` + i."""
    x0 = model.encode(images.to(model.device) * 2 - 1)
    seeds = [first + i for i in range(len(x0))]
    x_t = independent_latents(classifier_free(model, None, (1.0,)), x0, timesteps, seeds)[:-1]
    conditions = [model.condition(list(captions)), model.condition([""] * len(x0))]
    rows = []
    for x, t in zip(x_t, timesteps, strict=True):
        abar = model.schedule.abar(t)
        noise = (x - abar**0.5 * x0) / (1 - abar) ** 0.5
        rows.append([((model.predict(x, t, each) - noise) ** 2).mean((1, 2, 3)) for each in conditions])
    return torch.stack([torch.stack(row) for row in rows]).cpu()


def _gap(caption: Tensor, empty: Tensor) -> dict[str, float]:
    n = len(caption)
    left_out = 1 - (caption.sum() - caption) / (empty.sum() - empty)
    error = ((n - 1) * left_out.var(correction=0)).sqrt()
    means = float(caption.mean()), float(empty.mean())
    values = {"caption": means[0], "empty": means[1], "gap": 1 - means[0] / means[1], "error": float(error)}
    return {name: float(np.round(value, 6)) for name, value in values.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure a pipeline folder, write the results as JSON and print them."""
    parser = argparse.ArgumentParser(description="Loss of a pipeline with and without the caption.")
    parser.add_argument("model", help="bundled name or pipeline folder")
    parser.add_argument("--recipe", required=True, help="the diffusion recipe; its [data] selects the images")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--device", default=None, help="auto (default), cpu or cuda")
    parser.add_argument("--split", choices=SPLITS, default="train", help="split of the images (default train)")
    parser.add_argument("--count", type=int, default=200, help="largest number of images (default 200)")
    choice = parser.parse_args(argv)
    try:
        check_options(choice, least=2)
        data = open_images(load_recipe(choice.recipe, "diffusion"), choice.split, choice.count)
        model = load_model(choice.model, choice.device)
        figures: dict[str, Any] = {"split": choice.split, "images": len(data)}
        figures |= caption_report(model, torch.from_numpy(data.images).float() / 255, data.captions)
        write_text(choice.out, json.dumps(figures, indent=1) + "\n")
    except BadInput as error:
        parser.exit(2, f"{error}\n")
    print(json.dumps(figures, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
