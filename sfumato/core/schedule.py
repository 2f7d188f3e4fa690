"""The noise schedule: alpha-bar at every training timestep, and the timesteps of a run of n steps.

Notation: `abar_t` is the cumulative product of the alphas; a latent at level t is
x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) e with e ~ N(0, I) (Ho et al., arXiv 2006.11239, eq. 4).
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
"""Value that stands for x_0 as the target timestep of the last step of a run."""


@dataclass(frozen=True, eq=False)
class Schedule:
    """The noise schedule that a network was trained with, and the timestep spacing of shorter runs.

    Attributes:
        alphas_cumprod: abar of every training timestep, [train_steps], float64 on the CPU.
        final_alpha_cumprod: abar after the last step of a run (1, or abar_0 in Stable Diffusion).
        prediction_type: what the network returns: the noise, the velocity or the clean sample.
        spacing: rule for the timesteps of a shorter run, as timestep_spacing in diffusers (arXiv 2305.08891, table 2).
        steps_offset: added to every timestep of the "leading" spacing.
        sample_range: for networks on pixels, the range [-sample_range, sample_range] of x_0; None for latents.
            Sampling clips P_t to it; inversions and their replays, which end at a given x_0, do not.
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
        """Return the timesteps of a run in descending order, equal to those of diffusers' DDIM and DDPM schedulers.

        Args:
            steps: number of steps, from 1 to `max_steps`.

        Raises:
            BadInput: steps is out of range; or abar = 0 at the first timestep (a schedule rescaled to zero terminal
                SNR) and the network predicts the noise, which does not determine x_0 at that timestep.
        """
        if not 1 <= steps <= len(self) or (self.spacing == "leading" and steps > self.max_steps):
            raise BadInput(f"steps must be between 1 and {self.max_steps}, not {steps}.")
        visited: list[int] = {
            "leading": self._leading,
            "trailing": self._trailing,
            "linspace": self._linspace,
        }[self.spacing](steps)
        if self.prediction_type == "epsilon" and self.abar(visited[0]) <= 0:
            raise BadInput(
                f"This model's schedule has no signal left at timestep {visited[0]} (zero terminal SNR), where a "
                f"network that predicts the noise does not determine the image: {self._without_last()}."
            )
        return visited

    def previous(self, timesteps: Sequence[int]) -> list[int]:
        """Return the target timestep of each step: the next timestep of the run, and `FINISHED` for the last step.

        The DDPMScheduler of diffusers does the same. Its DDIMScheduler uses t - len // steps instead, which is a
        different timestep if the spacing is not len // steps ("linspace", and "trailing" with a number of steps that
        does not divide len): the noise level of x then differs from that of the next evaluation of the network.
        """
        return [*timesteps[1:], FINISHED]

    def abar(self, t: int) -> float:
        """abar_t, or `final_alpha_cumprod` for negative t."""
        return float(self.alphas_cumprod[t]) if t >= 0 else self.final_alpha_cumprod

    def _without_last(self) -> str:
        """Advice for the message on how to avoid the last training timestep, where some spacings always start."""
        if self.spacing == "leading":
            return "use fewer steps"
        return f'set timestep_spacing from "{self.spacing}" to "leading" in the model\'s scheduler_config.json'

    def _leading(self, steps: int) -> list[int]:
        stride = len(self) // steps
        return [i * stride + self.steps_offset for i in reversed(range(steps))]

    def _trailing(self, steps: int) -> list[int]:
        # computed as in numpy.arange, because rounding of values that end in .5 depends on the error of the stride
        stride = len(self) - (len(self) - len(self) / steps)
        return [round(len(self) - i * stride) - 1 for i in range(steps)]

    def _linspace(self, steps: int) -> list[int]:
        if steps == 1:
            return [0]
        stride = (len(self) - 1) / (steps - 1)
        return [round(i * stride) for i in reversed(range(steps))]
