"""Image shifting (Huberman-Spiegelglas et al., arXiv 2304.06140, section 2.2): translate x_T and all noise maps.

Edit-friendly noise maps encode the structure of the image, so that translating them translates the image. Native DDPM
noise maps do not. A translation-equivariant network without border effects would reproduce the translated x_0 exactly.
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
    """Translate the first latent and all noise maps circularly, as `torch.roll`.

    Attributes:
        right: number of latent cells to the right; negative to the left.
        down: number of latent cells downwards; negative upwards.
    """

    right: int
    down: int

    def replaces(self, i: int, steps: int) -> tuple[str, ...]:
        """The positions of the source, as shifts that take values from the source would undo the translation."""
        return (PLACES,) if self.right or self.down else ()

    def before_gradients(self, state: StepState, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return the translated latent at the first step; later latents are computed from it and not changed."""
        return self._moved(x) if state.i == 0 and state.visit == 0 else x

    def noise_map(self, state: StepMean, z: Float[Tensor, "b c h w"] | None) -> Float[Tensor, "b c h w"] | None:
        """Return the translated z_t."""
        return None if z is None else self._moved(z)

    def _moved(self, values: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return torch.roll(values, (self.down, self.right), (-2, -1))


def check_move(right: int, down: int, size: tuple[int, int]) -> None:
    """Raise BadInput for a translation by the image's size or more; `size` is (height, width) in latent positions."""
    height, width = size
    if abs(right) >= width or abs(down) >= height:
        raise BadInput(
            f"right must be between {1 - width} and {width - 1} and down between {1 - height} and {height - 1} latents "
            f"for an image of this size, not {right} and {down}."
        )
