"""The edits of real images that `benchmarks/guidance.py` measures: DiffuseIT and Asyrp, without guidance.

DiffuseIT skips two fifths of the steps, as the authors' command does. The delta-h of Asyrp has random weights, because
only its cost is measured; t_edit and t_boost are those that the authors' script suggests if they are not computed.
"""

from argparse import Namespace
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.asyrp_loop import asyrp
from benchmarks.contenders import Official, Ours
from benchmarks.diffuseit_loop import DIFFUSEIT
from benchmarks.rounds import Edits
from benchmarks.task import make_task
from sfumato.bench.contenders import Task
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.options.diffuseit import DiffuseITParams
from sfumato.options.params import options_of
from sfumato.shifts.delta_h import DeltaH

SKIPPED = 0.4
"""Share of the steps that DiffuseIT skips."""
T_EDIT, T_BOOST = 500, 200
OF_TASK = ("steps", "guidance_scale")
"""Options that are those of the task."""

Pair = tuple[Callable[[], Edits], Callable[[], Edits]]
"""Functions that create sfumato's contender and that of the public loop."""


def task_of(folder: Path, steps: int, device: str) -> Task:
    """The first example image of the package, without guidance."""
    unguided = {"skip": round(SKIPPED * steps), "source_guidance_scale": 1.0, "guidance_scale": 1.0}
    shipped = dict.fromkeys(("image", "source", "target", "size"))
    return make_task(Namespace(steps=steps, device=device, **unguided, **shipped), folder)


def contenders(task: Task, network: DiffusionModel, beside: Path) -> dict[str, Pair]:
    """Both contenders of every edit; the file of the delta-h is saved in the folder `beside`."""
    delta, path = delta_for(network, task.steps), beside / "delta_h.safetensors"
    delta.save(path)
    return {
        "diffuseit": (
            partial(Ours, task, network, "diffuseit", **authors_options(task.skip)),
            partial(Official, task, network, DIFFUSEIT),
        ),
        "asyrp": (
            partial(Ours, task, network, "asyrp", delta=str(path)),
            partial(Official, task, network, asyrp(delta.on(network.device))),
        ),
    }


def authors_options(skip: int) -> dict[str, Any]:
    """All options of DiffuseIT, so that defaults of the model are not used in place of the authors' values."""
    params = DiffuseITParams(skip=skip, noise_augmentation=True)
    return {name: getattr(params, name) for name in options_of(DiffuseITParams) if name not in OF_TASK}


def delta_for(network: DiffusionModel, steps: int) -> DeltaH:
    """A delta-h with random weights."""
    from tests.delta import delta_of  # random weights of the tests

    cells = network.latent_shape(*network.native_size)[1:]
    return delta_of(network, (cells[0], cells[1]), steps, t_edit=T_EDIT, t_boost=T_BOOST)
