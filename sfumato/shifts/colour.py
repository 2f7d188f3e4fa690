"""Colour manipulation in the noise maps (Huberman-Spiegelglas et al., arXiv 2304.06140, section 2.2, eq. 7).

    z_t  <-  z_t + s B (M - P(f_t(x_t))),   t in [T_1, T_2]

M is the wanted colour and P the predicted clean image, so the bracket is what is still missing of the colour. The
noise maps keep the texture, which noising and denoising (SDEdit) would lose.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from sfumato.core.shift import Shift
from sfumato.core.state import StepMean


@dataclass(frozen=True, eq=False)
class TowardsColour(Shift):
    """Moves z_t towards a colour within a window of timesteps.

    Attributes:
        colour: M, the wanted picture as a latent.
        strength: s.
        inside: B, 1 where the colour shall change, in the latents' resolution.
        window: (T_1, T_2), both included, in timesteps of the schedule, the smaller first.
    """

    colour: Float[Tensor, "#b c h w"]
    strength: float
    inside: Float[Tensor, "#b 1 h w"]
    window: tuple[int, int]

    def noise_map(self, state: StepMean, z: Float[Tensor, "b c h w"] | None) -> Float[Tensor, "b c h w"] | None:
        """Eq. 7; steps that add no noise (sigma_t = 0) have no z_t to move."""
        first, last = self.window
        if state.sigma == 0 or not first <= state.t <= last:
            return z
        missing = self.strength * self.inside * (self.colour - state.x0_prediction)
        return missing if z is None else z + missing
