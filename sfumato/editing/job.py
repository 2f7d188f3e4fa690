"""The input of a method, and the replay of an inversion with shifts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sfumato.core.path import count_steps

if TYPE_CHECKING:
    from sfumato.core.condition import Condition
    from sfumato.core.guidance import Guided
    from sfumato.core.schedule import Schedule
    from sfumato.core.shift import Shift
    from sfumato.core.state import StepEnd
    from sfumato.inversion import Inversion
    from sfumato.models.diffusion_model import DiffusionModel

FROM_NOISE = "none"
"""Name of the inversion in the job of an image that is generated from noise."""
REFERENCE = "reference"
"""The same for an image that is compared with the image of the same seed without any method, as its source."""


@dataclass(frozen=True, eq=False)
class Job:
    """Inverted images of one size and the conditions of their edit.

    Attributes:
        guidance: the network with the guidance of the edit, one row per image.
        inversion: the inversion of the images, on the network's device. While an edit is planned, only shapes,
            timesteps and seeds are known, and the latents are on the device "meta". Shifts must therefore read the
            latents of the source from `StepState.source`.
        source: condition of the source prompts, one row per image.
        target: condition of the target prompts, one row per image.
        condition: condition of the run before any shift: `target`, or `source` for methods with `under_source`.
        skip: number of first (noisiest) steps to skip.
        exact: evaluate the source one step at a time, see `sfumato.inversion.replay.with_source`.
        path: noise levels in the order in which the edit visits them (`sfumato.core.path`); () for each one once.
    """

    guidance: Guided
    inversion: Inversion
    source: Condition
    target: Condition
    condition: Condition
    skip: int = 0
    exact: bool = False
    path: tuple[int, ...] = ()

    @property
    def network(self) -> DiffusionModel:
        """The model without guidance."""
        from sfumato.models.with_source import model_of

        return model_of(self.guidance)

    @property
    def schedule(self) -> Schedule:
        """The schedule of the network."""
        return self.guidance.schedule

    @property
    def timesteps(self) -> tuple[int, ...]:
        """The timesteps of the edit, without the skipped ones, largest first."""
        return self.inversion.timesteps[self.skip :]

    @property
    def steps(self) -> int:
        """Number of steps that the edit runs, including repetitions by its path."""
        return count_steps(self.path) if self.path else len(self.timesteps)

    @property
    def has_source(self) -> bool:
        """Whether there is a source image, or a reference of generated images (`REFERENCE`), at recorded latents."""
        return self.inversion.kind != FROM_NOISE

    @property
    def seeds(self) -> tuple[int, ...]:
        """One seed per image; 0 if the inversion has no seeds."""
        return self.inversion.seeds or (0,) * self.inversion.x.shape[1]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the latents."""
        return self.inversion.x.shape[-2], self.inversion.x.shape[-1]

    def run(self, shifts: Sequence[Shift]) -> Iterator[StepEnd]:
        """Replay the inversion under the job's condition and guidance; yield every step.

        Args:
            shifts: shifts of the reverse process, in order.
        """
        from sfumato.inversion import replay, with_source

        guided = with_source(self.guidance, self.inversion, self.source, exact=self.exact)
        yield from replay(guided, self.inversion, self.condition, skip=self.skip, shifts=shifts, path=self.path)
