"""A piece of work that yields after every step and has a result at the end."""

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from PIL import Image
from torch import Tensor

from sfumato.api.group import decoded
from sfumato.core.state import StepEnd
from sfumato.geometry import Passes, counting_passes
from sfumato.images import to_uint8
from sfumato.models.diffusion_model import DiffusionModel


@dataclass(frozen=True, eq=False)
class Progress:
    """One finished step.

    Attributes:
        stage: "invert", "reconstruct", "edit" or "generate".
        done: steps finished in this run, over all groups of pictures.
        total: steps that the run will have.
        outputs: which pictures of the result the rows of `state` belong to.
        state: everything that is known about the step.
        show: turns latents of these rows into pictures of the right size.
    """

    stage: str
    done: int
    total: int
    outputs: tuple[int, ...]
    state: StepEnd
    show: Callable[[Tensor], list[Image.Image]] = field(repr=False)

    def preview(self) -> list[Image.Image]:
        """What the model takes the finished pictures to be at this step: P_t, decoded."""
        return self.show(self.state.x0_prediction)


class Reported(Protocol):
    """An outcome with a report, to which its run adds what it cost."""

    @property
    def report(self) -> dict[str, Any]:
        """Numbers beside the outcome."""


Outcome = TypeVar("Outcome", bound=Reported)


class Run(Iterator[Progress], Generic[Outcome]):
    """Iterate for progress, then read `result`; reading it runs what is left. Closing or dropping it cancels.

    Only the time, the network evaluations and the products with the Jacobian spent inside the run are counted, not
    the caller's between steps.
    """

    def __init__(self, network: DiffusionModel, steps: Generator[Progress, None, Outcome]) -> None:
        self._network = network
        self._steps: Generator[Progress, None, Outcome] = steps
        self._outcome: Outcome | None = None
        self.seconds = 0.0
        self.calls = 0
        self.samples = 0
        self.passes = Passes()

    def __next__(self) -> Progress:
        began = time.perf_counter()
        try:
            with self._network.counting() as count, counting_passes() as passes:
                return next(self._steps)
        except StopIteration as end:
            if self._outcome is None:
                self._outcome = end.value
            raise
        finally:
            self.seconds += time.perf_counter() - began
            self.calls += count.calls
            self.samples += count.samples
            self.passes += passes

    @property
    def result(self) -> Outcome:
        """The outcome, with the cost of the run in its report.

        Raises:
            RuntimeError: the run was cancelled or failed.
        """
        for _ in self:
            pass
        if self._outcome is None:
            raise RuntimeError("This run was cancelled or failed, so it has no result.")
        self._outcome.report["seconds"] = round(self.seconds, 4)
        self._outcome.report["network_evaluations"] = {"calls": self.calls, "samples": self.samples}
        if any(self.passes.products.values()):
            self._outcome.report["jacobian_passes"] = self.passes.products
        return self._outcome

    def close(self) -> None:
        """Cancel: nothing of the model has to be restored."""
        self._steps.close()


def following(
    work: Iterator[StepEnd],
    stage: str,
    part: int,
    parts: int,
    outputs: Sequence[int],
    network: DiffusionModel,
    size: tuple[int, int],
) -> Generator[Progress, None, Any]:
    """Report every step of one part of a run; return what the work returns, or the last x_{t-1}.

    Args:
        work: an inversion (a generator that returns it), or the steps of the reverse process.
        stage: see `Progress`.
        part: index of this part, from 0.
        parts: how many there are, all of the same number of steps.
        outputs: see `Progress`.
        network: decodes the previews.
        size: (width, height) of the pictures.
    """

    def show(latents: Tensor) -> list[Image.Image]:
        return [Image.fromarray(to_uint8(each)) for each in decoded(network, latents, size)]

    done, state = 0, None
    while True:
        try:
            state = next(work)
        except StopIteration as end:
            return state.x_prev if end.value is None and state is not None else end.value
        done += 1
        yield Progress(stage, part * state.steps + done, parts * state.steps, tuple(outputs), state, show)
