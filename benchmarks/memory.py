"""Peak memory of a block of code."""

import re
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch

from benchmarks.contenders import CONTENDERS, Task

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
MIB = 2**20


@dataclass
class Peak:
    """Memory in MiB; None if it cannot be measured (neither CUDA nor Linux).

    Attributes:
        before: in use at the start, including weights.
        peak: maximum in use.
    """

    before: float | None = None
    peak: float | None = None


@contextmanager
def peak_memory(device: str) -> Iterator[Peak]:
    """Measure the peak memory of the block: torch's allocations on CUDA, resident pages of the process on Linux."""
    found = Peak()
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        found.before = torch.cuda.memory_allocated(device) / MIB
        yield found
        found.peak = torch.cuda.max_memory_allocated(device) / MIB
    elif CLEAR.exists():
        CLEAR.write_text("5")  # resets the peak, which was set by loading the weights
        found.before = _resident("VmRSS")
        yield found
        # The kernel counts pages in batches, so its peak can be slightly below the resident memory at the start.
        found.peak = max(found.before, _resident("VmHWM"))
    else:
        yield found


def memory_of(name: str, task: Task, threads: int) -> Peak:
    """Peak memory of one inversion and edit by the contender `name`, in a new process without pages of other work."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_work, name, task, threads).result()


def _work(name: str, task: Task, threads: int) -> Peak:
    torch.set_num_threads(threads)
    contender = CONTENDERS[name](task)
    with peak_memory(task.device) as peak:
        contender.invert()
        contender.edit()
    return peak


def _resident(field: str) -> float:
    found = re.search(rf"{field}:\s+(\d+) kB", STATUS.read_text())
    assert found is not None
    return int(found.group(1)) / 1024
