"""Image shifting (Huberman-Spiegelglas et al., arXiv 2304.06140, section 2.2): move x_T and all noise maps.

Edit-friendly noise maps contain the structure of the image, so moving them moves the image; native ones do not. A
network without border effects would reproduce the moved x_0 exactly.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.shift import PLACES, Shift
from sfumato.core.state import StepMean, StepState
from sfumato.errors import BadInput


@dataclass(frozen=True, eq=False)
class Translate(Shift):
    """Move the first latent and all noise maps, circularly: what leaves on one side enters on the other.

    Attributes:
        right: number of latent cells to the right; negative to the left.
        down: number of latent cells downwards; negative upwards.
    """

    right: int
    down: int

    def replaces(self, i: int, steps: int) -> tuple[str, ...]:
        """The positions of the source: shifts that read them in the source would move everything back."""
        return (PLACES,) if self.right or self.down else ()

    def latent(self, state: StepState, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """x_T, moved; later latents are computed from it."""
        return self._moved(x) if state.i == 0 and state.visit == 0 else x

    def noise_map(self, state: StepMean, z: Float[Tensor, "b c h w"] | None) -> Float[Tensor, "b c h w"] | None:
        """z_t, moved."""
        return None if z is None else self._moved(z)

    def _moved(self, values: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return torch.roll(values, (self.down, self.right), (-2, -1))


def check_move(right: int, down: int, size: tuple[int, int]) -> None:
    """Raise BadInput for a move by the size of the image or more; `size` is its height and width in latent cells."""
    height, width = size
    if abs(right) >= width or abs(down) >= height:
        raise BadInput(
            f"right must be between {1 - width} and {width - 1} and down between {1 - height} and {height - 1} latents "
            f"for an image of this size, not {right} and {down}."
        )
