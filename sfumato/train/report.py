"""Evaluate a trained pipeline. The README of the bundled model contains these measurements.

    python -m sfumato.train.report emoji --recipe recipes/emoji-diffusion.toml --out report.json --grid samples.png

For each of the splits train, cells and test: PSNR and SSIM of the autoencoder, R-precision of real images and of images
generated from the same captions, the Frechet distance between both, and seconds per generated image. For each network:
its size and a summary of its training. The results are written as JSON, and the README's tables (`card`) are
printed.
"""

import json
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from sfumato.data.dataset import NothingLeft
from sfumato.errors import BadInput
from sfumato.files import write_text
from sfumato.metrics import DualEncoder, feature_distance, psnr, r_precision, ssim
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.networks.weights import read_shapes
from sfumato.train.card import card
from sfumato.train.dataset import open_images, save_grid
from sfumato.train.generated import generate, readable
from sfumato.train.recipe import DataRecipe, Recipe
from sfumato.train.record import name_of, read_summary
from sfumato.train.report_options import opened, report_parser

SPLITS = ("train", "cells", "test")
PARTS = ("vae", "text_encoder", "unet", "dual_encoder")

#: Images [n,3,h,w] in [0,1] and their captions.
Captioned = tuple[Tensor, list[str]]


def report(
    model: DiffusionModel,
    evaluator: DualEncoder,
    recipe: Recipe,
    count: int,
    real: int,
    guidance_scale: float,
    steps: int,
) -> dict[str, Any]:
    """Evaluate a pipeline on the images of a recipe.

    Args:
        model: the pipeline.
        evaluator: dual encoder that computes the features.
        recipe: the recipe of the diffusion model; its table [data] selects the images.
        count: largest number of generated images per split.
        real: largest number of images per split on which the autoencoder and the dual encoder are evaluated.
        guidance_scale: guidance scale of the generated images.
        steps: sampling steps of the generated images (DDIM, eta 0).

    Returns:
        `settings`, and for each split with images two dicts. `everything` is measured on the complete data folder:
        "images", "psnr" in dB, "ssim" and "r_precision". `trained` is measured on the images that the recipe
        selects and also contains "generated r_precision", "frechet" and "seconds per image". An R-precision has "at
        1", the value for the first rank, and "candidates", the number of captions (100, or all if there are fewer).
    """
    figures: dict[str, Any] = {
        "settings": {
            "guidance_scale": guidance_scale, "steps": steps, "size": recipe.data.size, "device": name_of(model.device),
            "threads": torch.get_num_threads(),
        }
    }  # fmt: skip
    everything = replace(recipe, data=DataRecipe(folder=recipe.data.folder, size=recipe.data.size))
    for split in SPLITS:
        try:
            figures[split] = {"everything": real_figures(model, evaluator, *chosen(evaluator, everything, split, real))}
            images, captions = chosen(evaluator, recipe, split, count)
        except NothingLeft:
            continue
        figures[split]["trained"] = real_figures(model, evaluator, images, captions) | generated_figures(
            model, evaluator, images, captions, guidance_scale, steps
        )
    return figures


def chosen(evaluator: DualEncoder, recipe: Recipe, split: str, count: int) -> Captioned:
    """At most `count` images of a split, by a fixed random draw, with captions truncated for the evaluator."""
    data = open_images(recipe, split, count)
    return torch.from_numpy(data.images).float() / 255, [readable(evaluator, caption) for caption in data.captions]


def real_figures(
    model: DiffusionModel, evaluator: DualEncoder, images: Tensor, captions: Sequence[str]
) -> dict[str, Any]:
    """Reconstruction quality of the autoencoder and R-precision of the dual encoder on real images.

    Args:
        model: the pipeline.
        evaluator: the dual encoder.
        images: the images, float [n,3,h,w] in [0,1].
        captions: their captions.
    """
    decoded = torch.cat([model.decode(model.encode(part * 2 - 1)).cpu() for part in images.split(32)])
    decoded = (decoded.clamp(-1, 1) + 1) / 2
    return {
        "images": len(images),
        "psnr": round(float(psnr(images, decoded).mean()), 3),
        "ssim": round(float(ssim(images, decoded).mean()), 4),
        "r_precision": retrieval(evaluator, evaluator.image_features(images), captions),
    }


def generated_figures(
    model: DiffusionModel,
    evaluator: DualEncoder,
    images: Tensor,
    captions: Sequence[str],
    guidance_scale: float,
    steps: int,
) -> dict[str, Any]:
    """R-precision of generated images, their Frechet distance to the real ones, and seconds per image.

    Args:
        model: the pipeline.
        evaluator: the dual encoder.
        images: the real images, float [n,3,h,w] in [0,1].
        captions: their captions; one image is generated for each.
        guidance_scale: guidance scale of the generated images.
        steps: sampling steps.
    """
    began = time.perf_counter()
    drawn = generate(model, captions, images.shape[-1], guidance_scale, steps)
    seconds = (time.perf_counter() - began) / len(drawn)
    features = evaluator.image_features(drawn)
    return {
        "generated r_precision": retrieval(evaluator, features, captions),
        "frechet": round(feature_distance(features, evaluator.image_features(images)), 4) if len(drawn) > 1 else None,
        "seconds per image": round(seconds, 3),
    }


def retrieval(evaluator: DualEncoder, features: Tensor, captions: Sequence[str]) -> dict[str, Any] | None:
    """R-precision at 1 among 100 captions, or among all different ones if there are fewer.

    Returns:
        "at 1" and "candidates"; None with fewer than two different captions.
    """
    if (candidates := min(100, len(set(captions)))) < 2:
        return None
    value = r_precision(features, evaluator.text_features(captions), captions, candidates)
    return {"at 1": round(value, 4), "candidates": candidates}


def parts(folder: Path) -> dict[str, dict[str, Any]]:
    """Sizes of a pipeline folder (".") and of each of its `PARTS`, with the summaries of their training.

    Returns:
        For each folder `megabytes`, `parameters` and `training` (content of `training.json`, or None).

    Raises:
        BadInput: a safetensors file or a `training.json` cannot be read.
    """
    found = {".": folder, **{part: folder / part for part in PARTS if (folder / part).is_dir()}}
    return {name: _part(each, folder) for name, each in found.items()}


def _part(folder: Path, root: Path) -> dict[str, Any]:
    files = [file for file in folder.rglob("*") if file.is_file()]
    count = 0
    for file in files:
        if file.suffix == ".safetensors":
            read_shapes(file, root)
            with safe_open(file, "pt") as tensors:
                slices = [tensors.get_slice(name) for name in tensors.keys()]  # noqa: SIM118 (no mapping)
                count += sum(math.prod(each.get_shape()) for each in slices if each.get_dtype().startswith("F"))
    megabytes = round(sum(file.stat().st_size for file in files) / 1e6, 1)
    return {"megabytes": megabytes, "parameters": count, "training": read_summary(folder) or None}


def show(model: DiffusionModel, recipe: Recipe, path: Path, guidance_scale: float, steps: int, count: int = 64) -> None:
    """Save a grid of at most `count` real images of the train split above images generated from their captions."""
    data = open_images(recipe, "train", count)
    images = torch.from_numpy(data.images).float() / 255
    drawn = generate(model, data.captions, recipe.data.size, guidance_scale, steps)
    rows = [row for k in range(0, len(drawn), 16) for row in (images[k : k + 16] * 2 - 1, drawn[k : k + 16] * 2 - 1)]
    save_grid(path, rows, f"real above generated, {steps} steps, guidance scale {guidance_scale}")


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate a pipeline folder, write the results as JSON and print the README's tables."""
    parser = report_parser("Evaluate a trained pipeline.", "selects the images")
    parser.add_argument("--count", type=int, default=200, help="generated images per split, at most (default 200)")
    parser.add_argument("--real", type=int, default=1000, help="real images per split, at most (default 1000)")
    choice = parser.parse_args(argv)
    try:
        folder, model, evaluator, recipe = opened(choice)
        figures = {"parts": parts(folder)}
        figures |= report(model, evaluator, recipe, choice.count, choice.real, choice.guidance_scale, choice.steps)
        write_text(choice.out, json.dumps(figures, indent=1) + "\n")
        if choice.grid:
            show(model, recipe, choice.grid, choice.guidance_scale, choice.steps)
    except BadInput as error:
        parser.exit(2, f"{error}\n")
    print(card(figures))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
