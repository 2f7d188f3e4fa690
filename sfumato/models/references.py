"""Reference images, noised to the level of every step, whose features and attention maps energy terms use.

    x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) e_t,      e_t ~ N(0, I)

No inversion is needed: Self-Guidance (Epstein et al., arXiv 2306.00986) also computes the maps and features of real
images from latents of the forward process.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from sfumato.core.condition import Condition
from sfumato.core.noise import gaussian_batch
from sfumato.core.schedule import Schedule
from sfumato.core.step import diffuse


@dataclass(frozen=True, eq=False)
class References:
    """Reference images of one size with their prompts; all of them are evaluated in one call.

    Attributes:
        latents: x_t by timestep, in the order of the run, one row per reference.
        condition: condition of their prompts, one row per reference.
    """

    latents: Mapping[int, Float[Tensor, "n c h w"]]
    condition: Condition

    @staticmethod
    def noised(
        x0: Float[Tensor, "n c h w"], condition: Condition, schedule: Schedule, timesteps: Sequence[int]
    ) -> "References":
        """References from their clean latents; e_t is a function of the position of a reference and of t only.

        Args:
            x0: the clean latents.
            condition: condition of the prompts, one row per reference.
            schedule: schedule of the network.
            timesteps: timesteps of the run, largest first.
        """
        rows = range(len(x0))

        def at(t: int) -> Tensor:
            noise = gaussian_batch(x0.shape[1:], [0] * len(x0), rows, t, tag="reference", device=x0.device)
            return diffuse(x0, noise, schedule.abar(t)).to(x0.dtype)

        return References({t: at(t) for t in timesteps}, condition)
