"""What several processes (`torchrun`) share; alone, each of these is the process's own."""

import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import Tensor

from sfumato.errors import BadInput


def together() -> bool:
    """Whether there are other processes."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def is_first() -> bool:
    """Whether this process is the one that writes files."""
    return not together() or dist.get_rank() == 0


def my_turn(k: int) -> bool:
    """Whether the k-th piece of work is this process's, where all share it in turns."""
    return not together() or k % dist.get_world_size() == dist.get_rank()


def wait_for(path: Path) -> None:
    """Return once a file of the first process is there. Should that process end, `torchrun` ends this one."""
    while not path.exists():
        time.sleep(0.1)


def refuse_different_steps(accelerator: Accelerator, step: int, folder: Path) -> None:
    """All processes must have read the same checkpoint of the run in `folder`, this one that of `step`.

    Raises:
        BadInput: they have not.
    """
    steps = sorted(set(accelerator.gather(torch.tensor([step], device=accelerator.device)).tolist()))
    if len(steps) > 1:
        raise BadInput(
            f"the processes found checkpoints of different steps ({', '.join(map(str, steps))}) "
            f"in {folder}; put the run's folder on storage that all machines share."
        )


def mean_of_all(mine: Tensor) -> Tensor:
    """The mean of a tensor over all processes, without gradient."""
    if not together():
        return mine
    total = mine.clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()


def rows_of_all(mine: Tensor) -> Tensor:
    """The rows of all processes under each other.

    Gradients flow to every process: each computes the whole loss, the sum of N equal gradients comes back to a row's
    owner, and the mean over processes that the loop takes makes it the gradient of the one loss.
    """
    return _RowsOfAll.apply(mine) if together() else mine


class _RowsOfAll(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, mine: Tensor) -> Tensor:
        rows = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
        dist.all_gather(rows, mine.contiguous())
        return torch.cat(rows)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total.chunk(dist.get_world_size())[dist.get_rank()]
