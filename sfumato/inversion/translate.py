"""Image shifting (Huberman-Spiegelglas et al., arXiv 2304.06140, section 2.2): the start and all noise maps, moved.

Edit-friendly noise maps carry the structure of the picture, so moving them moves the picture; native ones do not.
"""

from dataclasses import replace

import torch

from sfumato.errors import BadInput
from sfumato.inversion.artifact import Inversion


def translate(inversion: Inversion, right: int, down: int) -> Inversion:
    """All latents and noise maps moved by whole latents; what leaves at one side comes in at the other.

    A network that did not see borders would reproduce the moved x_0 exactly.

    Args:
        inversion: with noise maps.
        right: latents to the right; negative to the left.
        down: latents downwards; negative upwards.

    Raises:
        BadInput: a deterministic inversion, or a move by the whole picture or more.
    """
    if inversion.z is None:
        raise BadInput("An inversion without noise maps cannot be shifted: use edit-friendly or native-ddpm.")
    check_move(right, down, (inversion.x.shape[-2], inversion.x.shape[-1]))
    x, z = (torch.roll(each, (down, right), (-2, -1)) for each in (inversion.x, inversion.z))
    return replace(inversion, x=x, z=z)


def check_move(right: int, down: int, size: tuple[int, int]) -> None:
    """Refuse a move by the whole picture or more; `size` is its height and width in latents. Raises BadInput."""
    height, width = size
    if abs(right) >= width or abs(down) >= height:
        raise BadInput(f"right and down must stay within the picture's {width} x {height} latents.")
