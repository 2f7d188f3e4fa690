"""What a method is asked to edit, and the one place where a run of any inversion with any shifts begins."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sfumato.core.condition import Condition
from sfumato.core.guidance import Guided
from sfumato.core.schedule import Schedule
from sfumato.core.shift import Shift
from sfumato.core.state import StepEnd
from sfumato.inversion import Inversion, beside, replay
from sfumato.models.beside import model_of
from sfumato.models.diffusion_model import DiffusionModel


@dataclass(frozen=True, eq=False)
class Job:
    """Inverted images of one size, and what they are edited to.

    Attributes:
        guidance: the network and the guidance of the edit, one row per image.
        inversion: of the images, on the network's device. While an edit is planned it has the shapes, timesteps and
            seeds alone: its latents are on the device "meta". Shifts find the latents of the source in their state.
        source: condition of the source prompts, one row per image.
        target: condition of the target prompts, one row per image.
        condition: what the run is conditioned on before any shift: `target`, or `source` where a method says so.
        skip: steps at the noisy end that are left out.
        exact: evaluate the source one step at a time (see `sfumato.inversion.replay.beside`).
    """

    guidance: Guided
    inversion: Inversion
    source: Condition
    target: Condition
    condition: Condition
    skip: int = 0
    exact: bool = False

    @property
    def network(self) -> DiffusionModel:
        """The model without guidance."""
        return model_of(self.guidance)

    @property
    def schedule(self) -> Schedule:
        """The schedule of the network."""
        return self.guidance.schedule

    @property
    def timesteps(self) -> tuple[int, ...]:
        """The timesteps that are run, largest first."""
        return self.inversion.timesteps[self.skip :]

    @property
    def seeds(self) -> tuple[int, ...]:
        """One per image."""
        return self.inversion.seeds or (0,) * self.inversion.x.shape[1]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the latents."""
        return self.inversion.x.shape[-2], self.inversion.x.shape[-1]

    def run(self, shifts: Sequence[Shift]) -> Iterator[StepEnd]:
        """Replay the inversion under the job's condition and guidance, moved by shifts; yield every step."""
        guided = beside(self.guidance, self.inversion, self.source, exact=self.exact)
        yield from replay(guided, self.inversion, self.condition, skip=self.skip, shifts=shifts)
