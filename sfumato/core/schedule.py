"""The noise schedule: alpha-bar at every training timestep, and the timesteps that a run of n steps visits.

Notation: `abar_t` is the cumulative product of the alphas; a latent at level t is
x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) e (Ho et al., arXiv 2006.11239, eq. 4).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float64
from torch import Tensor

from sfumato.errors import BadInput

PredictionType = Literal["epsilon", "v_prediction", "sample"]
Spacing = Literal["leading", "trailing", "linspace"]

FINISHED = -1
"""The "timestep" of x_0: the level below the last timestep of a run."""


@dataclass(frozen=True, eq=False)
class Schedule:
    """What a network was trained on, and where a shorter run stops on the way.

    Attributes:
        alphas_cumprod: abar of every training timestep, float64 on the CPU.
        final_alpha_cumprod: abar of the level below the last timestep (1, or abar_0 in Stable Diffusion).
        prediction_type: what the network returns: the noise, the velocity or the clean sample.
        spacing: how the timesteps of a shorter run are laid out (arXiv 2305.08891, table 2).
        steps_offset: added to every timestep of the "leading" spacing.
        sample_range: where x_0 lies when it is pixels, [-sample_range, sample_range]; None for latents. Sampling
            keeps P_t within it; inversions and their replays, which end at a given x_0, do not.
    """

    alphas_cumprod: Float64[Tensor, " train_steps"]
    final_alpha_cumprod: float = 1.0
    prediction_type: PredictionType = "epsilon"
    spacing: Spacing = "leading"
    steps_offset: int = 0
    sample_range: float | None = None

    def __len__(self) -> int:
        return len(self.alphas_cumprod)

    @property
    def max_steps(self) -> int:
        """The largest number of steps that `timesteps` accepts."""
        if self.spacing != "leading":
            return len(self)
        fits = (n for n in range(len(self), 0, -1) if self._leading(n)[0] < len(self))
        return next(fits)

    def timesteps(self, steps: int) -> list[int]:
        """The timesteps of a run, largest first, equal to those of diffusers' DDIM and DDPM schedulers.

        Raises:
            BadInput: steps out of range, or a timestep with abar = 0 (a schedule rescaled to zero terminal SNR),
                where the noise prediction does not determine x_0.
        """
        if not 1 <= steps <= len(self) or (self.spacing == "leading" and steps > self.max_steps):
            raise BadInput(f"steps must be between 1 and {self.max_steps}, not {steps}.")
        visited: list[int] = {
            "leading": self._leading,
            "trailing": self._trailing,
            "linspace": self._linspace,
        }[self.spacing](steps)
        if self.abar(visited[0]) <= 0:
            raise BadInput(
                f"This model's schedule has no signal left at timestep {visited[0]} (zero terminal SNR), "
                f"which is not supported: {self._without_last()}."
            )
        return visited

    def previous(self, timesteps: Sequence[int]) -> list[int]:
        """The level that each step goes to: the next timestep of the run, and `FINISHED` for the last one.

        diffusers' DDPMScheduler does the same. Its DDIMScheduler subtracts len // steps instead, which is another
        level wherever the timesteps are not that far apart ("linspace", and "trailing" with a number of steps that
        does not divide len): there x is left at a level at which the network is not asked next.
        """
        return [*timesteps[1:], FINISHED]

    def abar(self, t: int) -> float:
        """abar_t; `final_alpha_cumprod` for negative t."""
        return float(self.alphas_cumprod[t]) if t >= 0 else self.final_alpha_cumprod

    def _without_last(self) -> str:
        """What keeps a run from the last timestep, with which "trailing" and "linspace" begin always."""
        if self.spacing == "leading":
            return "take fewer steps"
        return f'set timestep_spacing from "{self.spacing}" to "leading" in the model\'s scheduler_config.json'

    def _leading(self, steps: int) -> list[int]:
        stride = len(self) // steps
        return [i * stride + self.steps_offset for i in reversed(range(steps))]

    def _trailing(self, steps: int) -> list[int]:
        # where i strides end halfway between two timesteps the stride's own rounding decides; this is numpy.arange's
        stride = len(self) - (len(self) - len(self) / steps)
        return [round(len(self) - i * stride) - 1 for i in range(steps)]

    def _linspace(self, steps: int) -> list[int]:
        if steps == 1:
            return [0]
        stride = (len(self) - 1) / (steps - 1)
        return [round(i * stride) for i in reversed(range(steps))]
