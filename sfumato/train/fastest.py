"""`run.precision = "auto"`: measure before the first step which precision is fastest on this machine.

The result depends on the processor: bf16 is two to five times as fast as fp32 on CPUs with AMX, and slower on CPUs that
emulate it. Weights, EMA weights and optimizer states are fp32 in both cases. A run that resumes on the same kind of
processor keeps its precision, so that it continues bit for bit.
"""

import copy
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist

from sfumato.errors import BadInput
from sfumato.train.precision import arithmetic
from sfumato.train.processes import together
from sfumato.train.recipe import Recipe
from sfumato.train.seeds import step_generator
from sfumato.train.task import Phase, Task

_LOG = logging.getLogger(__name__)
_STEPS = 3
#: If the first pass in one precision takes this many times as long as a pass in another, it is not measured again.
_TOO_SLOW = 3.0


def with_fastest_precision(
    recipe: Recipe, task: Task, device: torch.device, before: Mapping[str, Any] | None = None
) -> Recipe:
    """Replace the precision "auto" of a recipe by "fp32" or "bf16", whichever takes less time per step.

    Copies of the networks of `task` are timed. A precision whose copies do not fit into the memory is not chosen. With
    several processes, the slowest one counts.

    Args:
        recipe: settings of the run.
        task: its networks and batches.
        device: device of the run.
        before: state of the newest checkpoint, with `precision_of`; None for a new run.

    Returns:
        The recipe with the chosen precision; `recipe` itself if its precision is not "auto".

    Raises:
        BadInput: the batches do not fit into the memory in any precision.
    """
    if recipe.run.precision != "auto":
        return recipe
    known = [(before or {}).get("precision_of", {}).get(processor(device))]
    if together():
        dist.broadcast_object_list(known)
    if known[0] in _candidates(device):
        return replace(recipe, run=replace(recipe.run, precision=known[0]))
    seconds: dict[str, float] = {}
    for precision in _candidates(device):
        # With several processes the passes contain collective operations, so all must make the same number of them.
        longest = math.inf if together() else _TOO_SLOW * min(seconds.values(), default=math.inf)
        seconds[precision] = _longest_of_all(_time_if_it_fits(task.phases, task, recipe, precision, device, longest))
    chosen = min(seconds, key=seconds.__getitem__)
    if math.isinf(seconds[chosen]):
        raise BadInput(f"optim.batch = {recipe.optim.batch} does not fit into the memory of the device: lower it.")
    times = ", ".join(f"{name} {each:.3g} s" for name, each in seconds.items())
    _LOG.warning("run.precision = 'auto': using %s (seconds per step: %s).", chosen, times)
    return replace(recipe, run=replace(recipe.run, precision=chosen))


def _longest_of_all(seconds: float) -> float:
    """Largest of the values of all processes, which therefore choose the same precision."""
    if not together():
        return seconds
    found: list[float] = [0.0] * dist.get_world_size()
    dist.all_gather_object(found, seconds)
    return max(found)


def processor(device: torch.device) -> str:
    """Name of a processor, including its bf16 support; the measured precision is reused for an equal name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    found: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)() if device.type == "cpu" else {}
    return ", ".join([device.type, *(f"{name} {found.get(name)}" for name in ("cpu_name", "avx512_bf16", "amx_bf16"))])


def _candidates(device: torch.device) -> Sequence[str]:
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return ("fp32",)
    return ("fp32", "bf16")


def _time_if_it_fits(*given: Any) -> float:
    """`_time`, or infinity if the device does not have enough memory."""
    try:
        return _time(*given)
    except torch.OutOfMemoryError:
        pass
    torch.cuda.empty_cache()  # after the exception is gone, whose traceback holds the tensors
    return math.inf


def _time(
    phases: Sequence[Phase], task: Task, recipe: Recipe, precision: str, device: torch.device, longest: float
) -> float:
    """Seconds per step: the fastest of `_STEPS` passes of each phase that starts at step 0, summed over these phases.

    If the first pass of a phase takes more than `longest` seconds, it is not repeated.
    """
    total = 0.0
    modules = copy.deepcopy([phase.module for phase in phases])  # together: a discriminator is part of two phases
    for module in modules:
        module.to(device)
        if recipe.run.channels_last:
            module.to(memory_format=torch.channels_last)
    for phase, module in zip(phases, modules, strict=True):
        if phase.start == 0:
            batch = task.batch(step_generator(recipe.seed, 0, 0, tag="precision"), recipe.optim.batch)
            batch = {name: value.to(device) for name, value in batch.items()} | {"step": torch.tensor(0)}
            with arithmetic(precision):
                first = _pass(module, batch, precision, device)
                rest = () if first > longest else (_pass(module, batch, precision, device) for _ in range(_STEPS - 1))
                total += min([first, *rest])
    return total


def _pass(module: torch.nn.Module, batch: dict[str, torch.Tensor], precision: str, device: torch.device) -> float:
    _wait(device)
    began = time.perf_counter()
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
        loss, _ = module(batch)
    loss.backward()
    _wait(device)
    module.zero_grad(set_to_none=True)
    return time.perf_counter() - began


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
