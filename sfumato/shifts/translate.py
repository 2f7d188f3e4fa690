"""Image shifting (Huberman-Spiegelglas et al., arXiv 2304.06140, section 2.2): the start and all noise maps, moved.

Edit-friendly noise maps carry the structure of the picture, so moving them moves the picture; native ones do not. A
network that did not see borders would reproduce the moved x_0 exactly.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.shift import Shift
from sfumato.core.state import StepMean, StepState
from sfumato.errors import BadInput


@dataclass(frozen=True, eq=False)
class Translate(Shift):
    """Moves the first latent and all noise maps by whole latents; what leaves at one side comes in at the other.

    Attributes:
        right: latents to the right; negative to the left.
        down: latents downwards; negative upwards.
    """

    right: int
    down: int

    def latent(self, state: StepState, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """x_T, moved; later latents follow from it."""
        return self._moved(x) if state.i == 0 and state.visit == 0 else x

    def noise_map(self, state: StepMean, z: Float[Tensor, "b c h w"] | None) -> Float[Tensor, "b c h w"] | None:
        """z_t, moved."""
        return None if z is None else self._moved(z)

    def _moved(self, values: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return torch.roll(values, (self.down, self.right), (-2, -1))


def check_move(right: int, down: int, size: tuple[int, int]) -> None:
    """Refuse a move by the whole picture or more; `size` is its height and width in latents. Raises BadInput."""
    height, width = size
    if abs(right) >= width or abs(down) >= height:
        raise BadInput(f"right and down must stay within the picture's {width} x {height} latents.")
