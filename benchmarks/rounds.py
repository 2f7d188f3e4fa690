"""Measurement rounds for the benchmarks of editing.

The contenders alternate (A B C A B C ...), so that other load on the machine affects all equally. Network evaluations
are counted by hooks on the U-Net: calls, total number of rows, and rows of backward passes. An evaluation of its
decoder half alone, from a recorded encoder half, counts as a call.
"""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Protocol, TypeVar

import torch
from PIL import Image
from torch import Tensor

from sfumato.bench.contenders import counted
from sfumato.errors import BadInput


class Edits(Protocol):
    """Protocol of a contender, which inverts the image, then edits it. Both calls can be repeated."""

    unet: torch.nn.Module

    def invert(self) -> None:
        """Invert the image, including its encoding."""

    def edit(self) -> Image.Image:
        """Return the edited image, including its decoding."""


@dataclass
class Outcome:
    """The cost of one contender; `problem` is the reason why it could not run, or "".

    `cpu_seconds` are the CPU seconds of all threads for inversion and edit together; they hardly depend on other load.
    """

    invert_seconds: list[float] = field(default_factory=list)
    edit_seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    calls: int = 0
    samples: int = 0
    backward: int = 0
    problem: str = ""

    @property
    def timed(self) -> bool:
        """Whether at least one round was measured."""
        return bool(self.edit_seconds)

    @property
    def seconds(self) -> float:
        """Median of the wall-clock seconds of inversion and edit together."""
        return median(a + b for a, b in zip(self.invert_seconds, self.edit_seconds, strict=True))


Ready = TypeVar("Ready", bound=Edits)
Counted = TypeVar("Counted", bound=Outcome)


def warm_up(
    makers: Mapping[str, Callable[[], Ready]],
    outcomes: Mapping[str, Counted],
    first: Callable[[Ready, Counted], None],
) -> dict[str, Ready]:
    """Create the contenders and run each once with `first`; those that fail are omitted and get a `problem`."""
    ready = {}
    for name, make in makers.items():
        try:
            contender = make()
            first(contender, outcomes[name])
            ready[name] = contender
        except (BadInput, ValueError, RuntimeError) as error:
            outcomes[name].problem = str(error).splitlines()[0]
    return ready


def count(contender: Edits, outcome: Outcome) -> None:
    """Run one inversion and edit, and count its evaluations into `outcome`."""
    unet = contender.unet
    with counted(unet) as whole, decoded_again(unet) as halves, carried_back(unet) as backward:
        contender.invert()
        contender.edit()
    rows = [*whole, *halves]
    outcome.calls, outcome.samples, outcome.backward = len(rows), sum(rows), sum(backward)


@contextmanager
def decoded_again(network: torch.nn.Module) -> Iterator[list[int]]:
    """Rows of every evaluation of the decoder half alone, one number per evaluation.

    These are the calls of the network's last layer that no completed call of the network contains.
    """
    with counted(network.get_submodule("conv_out")) as rows:

        def complete(module: torch.nn.Module, inputs: tuple[Tensor, ...], output: object) -> None:
            rows.pop()

        hook = network.register_forward_hook(complete)
        try:
            yield rows
        finally:
            hook.remove()


@contextmanager
def carried_back(network: torch.nn.Module) -> Iterator[list[int]]:
    """Rows of every backward pass that reaches the network's input within the block, one number per pass."""
    rows: list[int] = []

    def watch(module: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if inputs[0].requires_grad:
            inputs[0].register_hook(lambda gradient: rows.append(len(gradient)))

    hook = network.register_forward_pre_hook(watch)
    try:
        yield rows
    finally:
        hook.remove()


def rounds(ready: Mapping[str, Edits], outcomes: Mapping[str, Outcome], repeats: int, device: str) -> int:
    """Measure all contenders alternately, `repeats` times or until Ctrl-C.

    Returns:
        The number of complete rounds; only these count.

    Raises:
        KeyboardInterrupt: the first round was not complete.
    """
    for n in range(repeats):
        print(f"round {n + 1} of {repeats} ...", file=sys.stderr, flush=True)
        try:
            took = {name: _once(contender, device) for name, contender in ready.items()}
        except KeyboardInterrupt:
            if n == 0:
                raise
            return n
        for name, (invert, edit, cpu) in took.items():
            outcomes[name].invert_seconds.append(invert)
            outcomes[name].edit_seconds.append(edit)
            outcomes[name].cpu_seconds.append(cpu)
    return repeats


def _once(contender: Edits, device: str) -> tuple[float, float, float]:
    """Wall-clock seconds of the inversion and of the edit, and CPU seconds of both together."""
    busy = time.process_time()
    invert, edit = seconds_of(contender.invert, device), seconds_of(contender.edit, device)
    return invert, edit, time.process_time() - busy


def seconds_of(work: Callable[[], object], device: str) -> float:
    """Wall-clock seconds of `work`."""
    began = time.perf_counter()
    work()
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter() - began
