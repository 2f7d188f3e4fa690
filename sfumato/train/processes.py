"""Collective operations of several processes (`torchrun`); with a single process they do nothing."""

import hashlib
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import Tensor

from sfumato.errors import BadInput
from sfumato.files import printable

_LOG = logging.getLogger(__name__)
#: Seconds of waiting after which the log tells what a process waits for.
_LONG = 60.0


def together() -> bool:
    """Whether the run has more than one process."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def is_first() -> bool:
    """Whether this is the process of rank 0, which writes the files."""
    return not together() or dist.get_rank() == 0


def my_turn(k: int) -> bool:
    """Whether this process does the k-th piece of shared work: k modulo the number of processes is its rank."""
    return not together() or k % dist.get_world_size() == dist.get_rank()


def wait_for(path: Path) -> None:
    """Wait until another process has written a file. If that process fails, `torchrun` also ends this one.

    After a minute one line in the log names the file.
    """
    began, told = time.monotonic(), False
    while not path.exists():
        if not told and time.monotonic() - began > _LONG:
            _LOG.warning("waiting for %s, which another process writes (on storage that all machines share).", path)
            told = True
        time.sleep(0.1)


def refuse_different_steps(accelerator: Accelerator, step: int, folder: Path) -> None:
    """Check that all processes resumed from the same checkpoint.

    Args:
        accelerator: accelerator of the run.
        step: step of the checkpoint that this process read.
        folder: folder of the run, for the error message.

    Raises:
        BadInput: the steps differ.
    """
    steps = sorted(set(accelerator.gather(torch.tensor([step], device=accelerator.device)).tolist()))
    if len(steps) > 1:
        raise BadInput(
            f"the processes found checkpoints of different steps ({', '.join(map(str, steps))}) "
            f"in {folder}; put the run's folder on storage that all machines share."
        )


def refuse_different_images(files: Sequence[str], folder: str) -> None:
    """Check that all processes could read the same images, so that an index means the same image in each of them.

    Args:
        files: names of the images that this process read, in order.
        folder: folder of the data, for the error message.

    Raises:
        BadInput: the images differ.
    """
    if not together():
        return
    digests = [""] * dist.get_world_size()
    dist.all_gather_object(digests, hashlib.sha256("\n".join(files).encode()).hexdigest())
    if len(set(digests)) > 1:
        raise BadInput(
            f"the processes can read different images of {printable(folder)}: put the folder on storage that all "
            "machines share and can read."
        )


def mean_of_all(mine: Tensor) -> Tensor:
    """Mean of a tensor over all processes, without gradient."""
    if not together():
        return mine
    total = mine.clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()


def rows_of_all(mine: Tensor) -> Tensor:
    """Concatenate the rows of all N processes, with gradients: [n,...] -> [N n,...].

    Every process computes the same loss over all rows. The backward pass sums the N equal gradients and returns each
    process the part of its rows; averaging over processes (DistributedDataParallel) divides them by N again.
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
