"""Check of images before they are described."""

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.errors import BadInput, NonFinite


def check_pixels(pixels: Float[Tensor, "b 3 h w"]) -> None:
    """Refuse images that are not in [0, 1].

    Raises:
        BadInput: other values or shapes.
        NonFinite: an image contains NaN or infinity.
    """
    if pixels.ndim != 4 or pixels.shape[1] != 3 or pixels.numel() == 0:
        raise BadInput(f"images [b, 3, h, w] are needed, not {list(pixels.shape)}.")
    if not torch.isfinite(pixels).all():
        raise NonFinite("the images to be described contain NaN or infinity.")
    if pixels.min() < 0 or pixels.max() > 1:
        raise BadInput(f"pixels must lie in 0..1, not {pixels.min():.3g} to {pixels.max():.3g}.")
