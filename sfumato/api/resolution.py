"""The size at which an image is edited: its own, or that of the model's training images."""

from collections.abc import Sequence
from typing import TypeAlias

from sfumato.errors import BadInput
from sfumato.images import Picture, resized
from sfumato.models.diffusion_model import DiffusionModel

Resolution: TypeAlias = "int | str | None"
"""`native`, `full`, the side in pixels of a square, or None for native where the image is much larger than native."""
MUCH = 2.0
"""Ratio of the pixels of an image and of the model's training images, above which native is the default."""
MARGIN = 1.25
"""Largest ratio of the pixels that the network evaluates, padding included, and of those of the resolution."""
LARGEST = 8192


def check_resolution(network: DiffusionModel, resolution: Resolution) -> None:
    """Check a resolution.

    Args:
        network: the model.
        resolution: as `Resolution`.

    Raises:
        BadInput: neither native, full, None nor an integer from the model's grid to 8192.
    """
    if resolution is None or resolution in ("native", "full"):
        return
    whole = isinstance(resolution, int) and not isinstance(resolution, bool)
    if not whole or not network.multiple <= int(resolution) <= LARGEST:
        raise BadInput(
            f"resolution must be native, full or an integer from {network.multiple} to {LARGEST} (the side of a square "
            f"with as many pixels), not {resolution!r}."
        )


def chosen(network: DiffusionModel, resolution: Resolution, size: tuple[int, int]) -> int | str:
    """The resolution with the default resolved for an image of `size` (width, height): an integer, native or full."""
    if resolution is not None:
        return resolution
    own_height, own_width = network.native_size
    return "native" if size[0] * size[1] > MUCH * own_width * own_height else "full"


def edited_size(network: DiffusionModel, resolution: Resolution, size: tuple[int, int]) -> tuple[int, int]:
    """(width, height) at which an image is edited, before it is padded to the network's grid.

    One side is a multiple of the grid and the other follows the aspect ratio, rounded to pixels. Of these sizes the
    largest is taken that gives the network, padding included, at most `MARGIN` times the pixels of the resolution. With
    native, sizes between half the training images' pixels and that limit stay as they are.

    Args:
        network: the model.
        resolution: as `Resolution`.
        size: (width, height) of the image in pixels.
    """
    wanted = chosen(network, resolution, size)
    if wanted == "full":
        return size
    own_height, own_width = network.native_size
    pixels = own_width * own_height if wanted == "native" else int(wanted) ** 2
    most, grid, (width, height) = MARGIN * pixels, network.multiple, size

    def seen(each: tuple[int, int]) -> int:
        return (-(-each[0] // grid) * grid) * (-(-each[1] // grid) * grid)

    if wanted == "native" and pixels <= 2 * width * height and seen(size) <= most:
        return size
    sides = [grid * n for n in range(1, int(most / grid**2) + 1)]
    found = [(side, max(1, round(side * height / width))) for side in sides]
    found += [(max(1, round(side * width / height)), side) for side in sides]
    return max((each for each in found if seen(each) <= most), key=lambda each: each[0] * each[1])


def at_resolution(network: DiffusionModel, resolution: Resolution, pictures: Sequence[Picture]) -> list[Picture]:
    """The images at the sizes at which they are edited; equal images stay one object."""
    made = {id(each): resized(each, edited_size(network, resolution, each.size)) for each in pictures}
    return [made[id(each)] for each in pictures]
