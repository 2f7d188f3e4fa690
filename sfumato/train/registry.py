"""The training tasks: each registers itself under a name, and is found in any module of `sfumato.train`.

A task is one class in one file, after the protocol `sfumato.train.task.Task`:

    from sfumato.train.registry import task

    @task("autoencoder")
    class AutoencoderTask:
        def __init__(self, recipe: Recipe, folder: Path, device: torch.device | str) -> None: ...

Its name is the `kind` of a recipe, and what `sfumato train` calls it. A package of others names that file in the entry
point group `sfumato.tasks`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch

from sfumato.plugins import Registry
from sfumato.train.recipe import Recipe
from sfumato.train.task import Task


class BuildTask(Protocol):
    """Makes the task that a recipe describes."""

    def __call__(self, recipe: Recipe, folder: Path, device: torch.device | str) -> Task:
        """Check the recipe, open the data, build the networks.

        Args:
            recipe: what is trained.
            folder: the run's folder, which may hold what the task caches.
            device: where batches are made and the frozen networks that it builds on do their work.

        Raises:
            BadInput: a setting, the data or a model that it builds on cannot be used.
        """


TASKS: Registry[BuildTask] = Registry("kind of training", "sfumato.train", "sfumato.tasks")
"""All training tasks by name, in alphabetical order."""

Builder = TypeVar("Builder", bound=Callable[..., Any])


def task(name: str) -> Callable[[Builder], Builder]:
    """Register the decorated class. Raises BadInput where another task has the name."""

    def register(build: Builder) -> Builder:
        TASKS.register(name, build)
        return build

    return register
