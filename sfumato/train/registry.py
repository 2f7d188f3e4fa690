"""The training tasks by name. A task is one class in one file, with the decorator `task`, in `sfumato.train`.

It implements the protocol `sfumato.train.task.Task`:

    from sfumato.train.registry import task

    @task("autoencoder")
    class AutoencoderTask:
        def __init__(self, recipe: Recipe, folder: Path, device: torch.device | str) -> None: ...

Its name is the `kind` of a recipe and the argument of `sfumato train`. Another package names its module in the entry
point group `sfumato.tasks`; see docs/extending.md.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from sfumato.plugins import Registry

if TYPE_CHECKING:
    import torch

    from sfumato.train.recipe import Recipe
    from sfumato.train.task import Task


MODULES = {
    "autoencoder": "sfumato.train.autoencoder",
    "content": "sfumato.train.content",
    "delta-h": "sfumato.train.delta_h",
    "diffusion": "sfumato.train.diffusion",
    "dual-encoder": "sfumato.train.dual_encoder",
    "parasol": "sfumato.train.parasol",
    "style": "sfumato.train.style",
}
"""Module of each task of this package, so that the names are available without importing torch."""


class BuildTask(Protocol):
    """Protocol of a function, usually the class, that builds the task of a recipe."""

    def __call__(self, recipe: "Recipe", folder: Path, device: "torch.device | str") -> "Task":
        """Check the recipe, open the data, build the networks.

        Args:
            recipe: settings of the run.
            folder: folder of the run, in which the task may store caches.
            device: device of the batches and of frozen networks.

        Raises:
            BadInput: a setting, the data or a pretrained model cannot be used.
        """


TASKS: Registry[BuildTask] = Registry("kind of training", "sfumato.train", "sfumato.tasks", modules=MODULES)
"""All training tasks by name, in alphabetical order."""

Builder = TypeVar("Builder", bound=Callable[..., Any])


def task(name: str) -> Callable[[Builder], Builder]:
    """Register the decorated class. Raises BadInput if another task has the name."""

    def register(build: Builder) -> Builder:
        TASKS.register(name, build)
        return build

    return register
