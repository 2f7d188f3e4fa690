"""Moving x_t at one timestep of the reverse process, as a shift: it composes with prompts, masks and other shifts."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeAlias

from jaxtyping import Float
from torch import Tensor

from sfumato.core.guidance import Guided
from sfumato.core.shift import Shift
from sfumato.core.state import StepState
from sfumato.geometry.normalise import normalised
from sfumato.geometry.shooting import Shot

Move: TypeAlias = Callable[[Tensor, Any], Iterator[Shot]]
"""The steps of an edit from x_t under a condition."""

_RECORD: ContextVar[list[Shot] | None] = ContextVar("shots", default=None)


@contextmanager
def recorded_shots() -> Iterator[list[Shot]]:
    """Every step of every edit within a `with` block, in order, for reports of angles and lengths."""
    shots: list[Shot] = []
    token = _RECORD.set(shots)
    try:
        yield shots
    finally:
        _RECORD.reset(token)


@dataclass(frozen=True, eq=False)
class MoveLatent(Shift):
    """x_t <- the end of `move`, normalised, at one timestep; nothing at the others.

    Attributes:
        guided: predicts the noise for the normalisation.
        t: the timestep.
        move: the steps of the edit.
        kappa: of the normalisation; None for none.
    """

    guided: Guided
    t: int
    move: Move
    kappa: float | None

    def latent(self, state: StepState, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The moved latent."""
        if state.t != self.t:
            return x
        shots, moved = _RECORD.get(), x
        for shot in self.move(x, state.condition):
            moved = shot.x
            if shots is not None:
                shots.append(shot)
        if self.kappa is None:
            return moved

        def predict(each: Tensor) -> Tensor:
            return self.guided.predict(each, state.t, state.condition)

        return normalised(predict, x, moved, state.abar, self.kappa)
