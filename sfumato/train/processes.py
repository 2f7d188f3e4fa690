"""What several processes (`torchrun`) share; alone, each of these is the process's own."""

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.nn.functional import all_gather


def together() -> bool:
    """Whether there are other processes."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def is_first() -> bool:
    """Whether this process is the one that writes files."""
    return not together() or dist.get_rank() == 0


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
    if not together():
        return mine
    if mine.requires_grad:
        return torch.cat(list(all_gather(mine)))
    rows = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(rows, mine.contiguous())
    return torch.cat(rows)
