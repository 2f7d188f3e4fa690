"""Recipes small enough to train in a test."""

from pathlib import Path
from typing import Any

import numpy as np

from sfumato.train.loop import Run
from sfumato.train.recipe import DataRecipe, OptimRecipe, Recipe, RunRecipe
from sfumato.train.start import build_task


class Stored:
    """Images, uint8 [n,3,h,w], with the data set methods that encoding needs."""

    def __init__(self, images: np.ndarray) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def pixels(self, items) -> np.ndarray:
        return self.images[list(items)]


AUTOENCODER: dict[str, Any] = {"f": 4, "channels": (16, 16, 32), "groups": 8}
DUAL_ENCODER: dict[str, Any] = {"text_layers": 1, "image_layers": 2, "width": 64, "vocabulary": 600, "context": 12}
UNET: dict[str, Any] = {"channels": (16, 32), "heads": (2, 4), "groups": 8}


def small_recipe(
    kind: str, image_folder: Path, steps: int, network: dict[str, Any], *, batch: int = 8, lr: float = 3e-3, **loss: Any
) -> Recipe:
    """fp32 on the eight 32 px images, with one checkpoint at the end."""
    return Recipe(
        kind=kind,
        data=DataRecipe(folder=str(image_folder), size=32),
        optim=OptimRecipe(batch=batch, lr=lr, warmup=10, weight_decay=0.0, ema=0.98),
        run=RunRecipe(steps=steps, checkpoint_every=10_000, sample_every=10_000, log_every=10_000, precision="fp32"),
        network=network,
        loss=loss,
    )


def trained(recipe: Recipe, folder: Path) -> Run:
    """Train a run to its end and return it."""
    run = Run(build_task(recipe, folder), recipe, folder, "cpu")
    for _ in run.steps():
        pass
    return run
