"""Colour manipulation in the noise maps (Huberman-Spiegelglas et al., arXiv 2304.06140, section 2.2, eq. 7).

    z_t  <-  z_t + s B (M - P(f_t(x_t))),   t in [T_1, T_2]

M is the target colour and P(f_t(x_t)) = P_t the prediction of x_0, so the bracket is the remaining colour difference.
The noise maps preserve the texture, which noising and denoising the image (SDEdit) would lose.
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
        colour: M, an image of the target colour as a latent.
        strength: s.
        inside: B, 1 where the colour is changed, at the resolution of the latents.
        window: (T_1, T_2) with T_1 <= T_2, both included, in training timesteps.
    """

    colour: Float[Tensor, "#b c h w"]
    strength: float
    inside: Float[Tensor, "#b 1 h w"]
    window: tuple[int, int]

    def noise_map(self, state: StepMean, z: Float[Tensor, "b c h w"] | None) -> Float[Tensor, "b c h w"] | None:
        """z_t + s B (M - P_t), eq. 7; z_t is left as it is outside the window and in steps with sigma_t = 0."""
        first, last = self.window
        if state.sigma == 0 or not first <= state.t <= last:
            return z
        missing = self.strength * self.inside * (self.colour - state.x0_prediction)
        return missing if z is None else z + missing
