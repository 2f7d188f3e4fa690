"""Runs: iterators that yield after every step and have a result at the end."""

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import wraps
from inspect import cleandoc, signature
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, get_args

from PIL import Image
from torch import Tensor

from sfumato.api.group import decoded
from sfumato.api.result import Part
from sfumato.core.notes import collecting_notes
from sfumato.core.state import StepEnd
from sfumato.geometry import Passes, counting_passes
from sfumato.images import to_uint8
from sfumato.models.diffusion_model import DiffusionModel


@dataclass(frozen=True, eq=False)
class Progress:
    """Progress after a finished step.

    Attributes:
        stage: "invert", "reconstruct", "edit", "interpolate", "reference" or "generate".
        done: number of finished steps of this stage, over all batches.
        total: number of steps of this stage, over all batches.
        outputs: index of the result, per row of `state`.
        state: latents and predictions of the step.
        show: decodes latents of these rows to Pillow images of the size of the results.
    """

    stage: str
    done: int
    total: int
    outputs: tuple[int, ...]
    state: StepEnd
    show: Callable[[Tensor], list[Image.Image]] = field(repr=False)

    def preview(self) -> list[Image.Image]:
        """Decode P_t, the prediction of x_0 at this step, as a preview of the results."""
        return self.show(self.state.x0_prediction)


class Reported(Protocol):
    """Protocol of a result with a report, to which the run adds time and network evaluations."""

    @property
    def report(self) -> dict[str, Any]:
        """Parameters, metrics, time and network evaluations."""


Outcome = TypeVar("Outcome", bound=Reported)
Owner = TypeVar("Owner")
Arguments = ParamSpec("Arguments")


class Run(Iterator[Progress], Generic[Outcome]):
    """Iterator over the steps of an inversion, edit or generation.

    Iterate over it for progress, then read `result`, which runs the remaining steps. Closing or deleting the run
    cancels it. Time, network evaluations and products with the Jacobian are counted during the steps only, not in the
    caller's code between steps.

    Attributes:
        parts: the finished images so far, batch by batch, of an edit or a generation (`sfumato.api.result.Part`).
        seconds: computation time so far.
        calls: number of forward passes of the network so far.
        samples: number of rows evaluated by the network so far.
        passes: number of products with the Jacobian so far.
        notes: notes of the steps so far (`sfumato.core.notes`).
    """

    def __init__(
        self, network: DiffusionModel, steps: Generator[Progress, None, Outcome], parts: Sequence[Part] = ()
    ) -> None:
        self.parts = parts
        self._network = network
        self._steps: Generator[Progress, None, Outcome] = steps
        self._outcome: Outcome | None = None
        self._begun = False
        self.seconds = 0.0
        self.calls = 0
        self.samples = 0
        self.passes = Passes()
        self.notes: dict[str, None] = {}

    def __next__(self) -> Progress:
        if not self._begun:
            self._begun = True
            self._network.fingerprint_soon()  # for recipes
        began = time.perf_counter()
        try:
            with self._network.counting() as count, counting_passes() as passes, collecting_notes() as notes:
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
            self.notes |= notes

    @property
    def result(self) -> Outcome:
        """The result; seconds, network_evaluations and, if there are any, jacobian_passes and notes are in its report.

        Raises:
            RuntimeError: the run was cancelled or failed.
        """
        for _ in self:
            pass
        if self._outcome is None:
            raise RuntimeError("This run was cancelled or failed, so it has no result.")
        self._outcome.report["seconds"] = round(self.seconds, 4)
        self._outcome.report["network_evaluations"] = {"calls": self.calls, "samples": self.samples}
        if self.notes:
            self._outcome.report["notes"] = list(dict.fromkeys([*self._outcome.report.get("notes", []), *self.notes]))
        if any(self.passes.products.values()):
            self._outcome.report["jacobian_passes"] = self.passes.products
        return self._outcome

    def close(self) -> None:
        """Cancel the run. The model can be used again without further clean-up."""
        self._steps.close()


def following(
    work: Iterator[StepEnd],
    stage: str,
    part: int,
    parts: int,
    outputs: Sequence[int],
    network: DiffusionModel,
    size: tuple[int, int],
    steps: int | None = None,
) -> Generator[Progress, None, Any]:
    """Yield the progress of one part of a run.

    Args:
        work: a generator that yields the steps of an inversion and returns it, or an iterator over the steps of the
            reverse process.
        stage: see `Progress`.
        part: index of this part, from 0.
        parts: number of parts, which all have the same number of steps.
        outputs: see `Progress`.
        network: decodes the previews.
        size: (width, height) of the images in pixels.
        steps: number of steps of a part if its path repeats steps; by default the number of timesteps.

    Returns:
        The return value of `work`, or the last x_{t-1} if that is None.
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
        each = steps or state.steps
        yield Progress(stage, part * each + done, parts * each, tuple(outputs), state, show)


class Planned(Protocol[Outcome]):
    """Protocol of a plan."""

    def run(self) -> Run[Outcome]:
        """Run the plan."""


def started(
    plan: Callable[Concatenate[Owner, Arguments], Planned[Outcome]], name: str, outcome: type[Outcome]
) -> Callable[Concatenate[Owner, Arguments], Run[Outcome]]:
    """Derive from a method that returns a plan the method `name` that returns the run of the plan."""

    @wraps(plan)
    def call(self: Owner, /, *args: Arguments.args, **options: Arguments.kwargs) -> Run[Outcome]:
        return plan(self, *args, **options).run()

    _derive(call, plan, name, f"As `{plan.__name__}`, but run the plan, yielding after every step.", Run[outcome])  # type: ignore[valid-type]
    return call


def finished(
    steps: Callable[Concatenate[Owner, Arguments], Run[Outcome]],
) -> Callable[Concatenate[Owner, Arguments], Outcome]:
    """Derive from a method that returns a run the method that runs all steps and returns the result."""

    @wraps(steps)
    def call(self: Owner, /, *args: Arguments.args, **options: Arguments.kwargs) -> Outcome:
        return steps(self, *args, **options).result

    (outcome,) = get_args(steps.__annotations__["return"])
    first = f"As `{steps.__name__}`, but return the result when all steps are done."
    _derive(call, steps, steps.__name__.removesuffix("_steps"), first, outcome)
    return call


def _derive(call: Any, origin: Callable[..., Any], name: str, first: str, outcome: Any) -> None:
    """Give a method the signature and the docstring of another one, with a name, a first line and a return type."""
    owner = origin.__qualname__.rpartition(".")[0]
    call.__name__, call.__qualname__ = name, f"{owner}.{name}" if owner else name
    call.__doc__ = f"{first}\n\n{cleandoc(origin.__doc__ or '')}"
    call.__annotations__ = origin.__annotations__ | {"return": outcome}
    call.__signature__ = signature(origin).replace(return_annotation=outcome)
