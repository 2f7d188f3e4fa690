"""A shift that edits x_t at one timestep of the reverse process, and the recording of such edits for reports."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TypeAlias, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.shift import Shift
from sfumato.core.state import StepState
from sfumato.geometry.normalise import normalised
from sfumato.geometry.shooting import Shot
from sfumato.models.taps import FromSource

Move: TypeAlias = Callable[[StepState, Tensor], Iterator[Shot]]
"""Maps (state, x_t) to the steps of an edit that starts at x_t, with the network and condition of the state."""

Item = TypeVar("Item")


@dataclass(frozen=True, eq=False)
class Moved:
    """Record of an edit of the latents of one batch.

    Attributes:
        shots: the steps of the edit.
        distance: |x_t' - x_t| after all steps and the normalisation, [b].
    """

    shots: tuple[Shot, ...]
    distance: Float[Tensor, " b"]


_RECORD: ContextVar[list[Moved] | None] = ContextVar("moves", default=None)


@contextmanager
def recorded_moves() -> Iterator[list[Moved]]:
    """Context manager that records all edits by `MoveLatent` in its block, in order, for reports."""
    moves: list[Moved] = []
    around = _RECORD.get()
    token = _RECORD.set(moves)
    try:
        yield moves
    finally:
        _RECORD.reset(token)
        if around is not None:
            around += moves


def with_moves(work: Iterator[Item], moves: list[Moved]) -> Iterator[Item]:
    """Yield the items of `work`, and append the edits that are recorded during their computation to `moves`."""
    while True:
        with recorded_moves() as found:
            try:
                item = next(work)
            except StopIteration:
                return
        moves += found
        yield item


@dataclass(frozen=True, eq=False)
class MoveLatent(Shift):
    """Shift that replaces x_t at one timestep by the normalised end point of `move`.

    The predictions of the normalisation are those of the run, with its guidance and the taps of all shifts.

    If a run visits the timestep several times (resampling, `sfumato.core.path`), x_t is replaced at the first visit
    only.

    Attributes:
        t: the timestep.
        move: yields the steps of the edit.
        kappa: parameter of the normalisation, see `gain`; None for no normalisation.
    """

    t: int
    move: Move
    kappa: float | None

    def before_gradients(self, state: StepState, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return the edited latents at the first visit of timestep t, and x in all other steps."""
        if state.t != self.t or state.visit:
            return x
        shots = tuple(self.move(state, x))
        moved = self._normalised(state, x, shots[-1].x)
        record = _RECORD.get()
        if record is not None:
            record.append(Moved(shots, torch.linalg.vector_norm(moved - x, dim=(1, 2, 3))))
        return moved

    def _normalised(self, state: StepState, x: Tensor, edited: Tensor) -> Tensor:
        if self.kappa is None:
            return edited

        taps = [replace(tap, again=True) if isinstance(tap, FromSource) else tap for tap in state.taps]

        def predict(each: Tensor) -> Tensor:
            return state.network.predict(each, state.t, state.condition, taps or None)

        return normalised(predict, x, edited, state.abar, self.kappa)
