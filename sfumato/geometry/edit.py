"""A shift that moves x_t at one timestep of the reverse process; it composes with prompts, masks and other shifts."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.shift import Shift
from sfumato.core.state import StepState
from sfumato.geometry.normalise import normalised
from sfumato.geometry.shooting import Shot

Move: TypeAlias = Callable[[StepState, Tensor], Iterator[Shot]]
"""(state, x_t) -> the steps of an edit from x_t, with the network and the condition of the state."""

Item = TypeVar("Item")


@dataclass(frozen=True, eq=False)
class Moved:
    """Record of how the latents of one batch were moved.

    Attributes:
        shots: the steps of the edit.
        distance: |x_t' - x_t| after all steps and the normalisation, [b].
    """

    shots: tuple[Shot, ...]
    distance: Float[Tensor, " b"]


_RECORD: ContextVar[list[Moved] | None] = ContextVar("moves", default=None)


@contextmanager
def recorded_moves() -> Iterator[list[Moved]]:
    """Record every move of latents within a `with` block, in order, for reports of angles and lengths."""
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
    """Yield the items of `work`; append the moves that their computation makes to `moves`."""
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
    """Shift that replaces x_t at one timestep by the end point of `move`, normalised.

    A run that visits the timestep several times (resampling, `sfumato.core.path`) is moved at the first visit only.

    Attributes:
        t: the timestep; at all others the latents do not change.
        move: yields the steps of the edit.
        kappa: parameter of the normalisation, see `gain`; None leaves the normalisation out.
    """

    t: int
    move: Move
    kappa: float | None

    def latent(self, state: StepState, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The moved latents at the first visit of timestep t, x at all others."""
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

        def predict(each: Tensor) -> Tensor:
            return state.network.predict(each, state.t, state.condition)

        return normalised(predict, x, edited, state.abar, self.kappa)
