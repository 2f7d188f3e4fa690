"""From a recipe file to a run: what `sfumato train` calls."""

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
    """The task that a recipe describes; see `sfumato.train.registry.BuildTask`. Raises BadInput for an unknown kind."""
    return TASKS.find(recipe.kind)(recipe, folder, device)


def start(path: Path | str, folder: Path | str, kind: str | None = None, device: str | None = None) -> Run:
    """A run, new or resumed, of the recipe at `path` in `folder`.

    Raises:
        BadInput: the recipe, its data, the device or the models it builds on cannot be used; said before any training.
    """
    recipe, folder = load_recipe(path, kind), Path(folder)
    if device == "cuda" and not torch.cuda.is_available():
        raise BadInput("torch finds no CUDA device here; train on the CPU, or install a torch built for your GPU.")
    refuse_another_kind(folder, recipe.kind)
    place = PartialState(cpu=device == "cpu").device
    held = lock(folder)  # before the task writes to it, and until the run holds it too
    with arithmetic(recipe.run.precision):
        task = build_task(recipe, folder, place)
    run = Run(task, recipe, folder, device)
    del held
    return run
