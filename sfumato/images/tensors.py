"""Conversion between images and tensors: pixel range, padding to the model's grid, exact crop back."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sfumato.errors import BadInput, NonFinite
from sfumato.images.loaded_image import LoadedImage


@dataclass(frozen=True)
class Padding:
    """Size of a tensor in pixels before padding at the right and the bottom."""

    height: int
    width: int


def to_tensor(image: LoadedImage) -> Tensor:
    """Convert an image to float32 [1, 3, h, w], x = level / 127.5 - 1 in [-1, 1]."""
    pixels = torch.from_numpy(np.ascontiguousarray(image.rgb).copy())
    return (pixels.permute(2, 0, 1)[None].to(torch.float32) / 127.5 - 1).contiguous()


def to_uint8(x: Tensor) -> NDArray[np.uint8]:
    """Convert one image, float [1, 3, h, w] or [3, h, w] in [-1, 1], to uint8 [h, w, 3]; other values are clipped.

    The exact inverse of `to_tensor`.

    Raises:
        BadInput: the tensor has another shape.
        NonFinite: the tensor contains NaN or infinity.
    """
    if x.ndim == 4 and x.shape[0] == 1:
        x = x[0]
    if x.ndim != 3 or x.shape[0] != 3:
        raise BadInput(f"one image of shape [3, h, w] is needed, not {list(x.shape)}.")
    x = x.detach().to("cpu", torch.float32)
    if not torch.isfinite(x).all():
        raise NonFinite("the image to be written contains NaN or infinity.")
    levels = ((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return levels.permute(1, 2, 0).contiguous().numpy()


def pad_to_grid(x: Tensor, multiple: int) -> tuple[Tensor, Padding]:
    """Pad [..., h, w] to the next multiples of `multiple` by reflection at the right and the bottom.

    The top left corner stays in place. The reflection is repeated where needed, so images of 1 x 1 pixels can be
    padded.

    Returns:
        The padded tensor, and the padding that `crop_back` undoes.

    Raises:
        BadInput: `multiple` is below 1, or the image is empty.
    """
    if multiple < 1:
        raise BadInput(f"multiple must be at least 1, not {multiple}.")
    height, width = x.shape[-2:]
    if height < 1 or width < 1:
        raise BadInput(f"an image of at least 1 x 1 pixels is needed, not {width} x {height}.")
    for axis, length in ((-2, height), (-1, width)):
        target = -(-length // multiple) * multiple
        if target > length:
            index = torch.as_tensor(_reflected(length, target), device=x.device)
            x = x.index_select(axis % x.ndim, index)
    return x, Padding(height, width)


def crop_back(x: Tensor, padding: Padding) -> Tensor:
    """Undo `pad_to_grid`: crop to the original height and width."""
    return x[..., : padding.height, : padding.width]


def centre_square(x: Tensor) -> Tensor:
    """The centre square of [..., h, w], of which descriptors are computed (`sfumato.data.pixels.centre_square`)."""
    height, width = x.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return x[..., top : top + side, left : left + side]


def _reflected(length: int, target: int) -> Sequence[int]:
    """0 1 2 3 2 1 0 1 ...: `target` positions in a signal of `length`, mirrored about its end pixels."""
    period = max(1, 2 * (length - 1))
    return [min(i % period, period - i % period) for i in range(target)]
