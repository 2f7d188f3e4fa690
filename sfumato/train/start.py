"""Build a training run from a recipe file, for `sfumato train`."""

from pathlib import Path

import torch
from accelerate import PartialState

from sfumato.errors import BadInput
from sfumato.train.binding import refuse_another_kind
from sfumato.train.lock import lock
from sfumato.train.loop import Run
from sfumato.train.precision import arithmetic
from sfumato.train.recipe import Recipe, load_recipe
from sfumato.train.registry import TASKS
from sfumato.train.task import Task


def build_task(recipe: Recipe, folder: Path, device: torch.device | str = "cpu") -> Task:
    """Build the task of a recipe; see `sfumato.train.registry.BuildTask`. Raises BadInput for an unknown kind."""
    return TASKS.find(recipe.kind)(recipe, folder, device)


def start(path: Path | str, folder: Path | str, kind: str | None = None, device: str | None = None) -> Run:
    """Start or resume the run of a recipe.

    Args:
        path: the recipe, a TOML file.
        folder: folder of the run; an existing run resumes from its newest checkpoint.
        kind: the expected kind of training; None accepts every kind.
        device: "cpu", "cuda" or None (accelerate's choice).

    Raises:
        BadInput: the recipe, its data, the device or the pretrained models cannot be used; raised before any training.
    """
    recipe, folder = load_recipe(path, kind), Path(folder)
    if device == "cuda" and not torch.cuda.is_available():
        raise BadInput("torch finds no CUDA device here; train on the CPU, or install a torch built for your GPU.")
    refuse_another_kind(folder, recipe.kind)
    place = PartialState(cpu=device == "cpu").device
    held = lock(folder)  # the task writes to the folder before `Run` takes the lock
    with arithmetic(recipe.run.precision):
        task = build_task(recipe, folder, place)
    run = Run(task, recipe, folder, device)
    del held
    return run
