"""The size at which an image is edited: that of the image, of the model's training images, or a given one."""

from collections.abc import Sequence
from typing import TypeAlias

from sfumato.errors import BadInput
from sfumato.images import LoadedImage, resized
from sfumato.images.limits import LARGEST_SIDE
from sfumato.models.diffusion_model import DiffusionModel

Resolution: TypeAlias = "int | str | None"
"""`native`, `full`, the side in pixels of a square, or None: native for images that are much larger, otherwise full."""
MUCH = 2.0
"""Ratio of the numbers of pixels of an image and of the training images above which the default is native."""
MARGIN = 1.25
"""Maximum ratio of the number of pixels that the network evaluates, including padding, to that of the resolution."""


def check_resolution(network: DiffusionModel, resolution: Resolution) -> None:
    """Check a resolution.

    Args:
        network: the model.
        resolution: as `Resolution`.

    Raises:
        BadInput: the value is neither native, full, None nor an integer from the model's grid size to 8192.
    """
    if resolution is None or resolution in ("native", "full"):
        return
    whole = isinstance(resolution, int) and not isinstance(resolution, bool)
    if not whole or not network.multiple <= int(resolution) <= LARGEST_SIDE:
        raise BadInput(
            f"resolution must be native, full or an integer from {network.multiple} to {LARGEST_SIDE} (the side of a "
            f"square with as many pixels), not {resolution!r}."
        )


def chosen(network: DiffusionModel, resolution: Resolution, size: tuple[int, int]) -> int | str:
    """Replace the default None by native or full, depending on the `size` (width, height) of an image."""
    if resolution is not None:
        return resolution
    own_height, own_width = network.native_size
    return "native" if size[0] * size[1] > MUCH * own_width * own_height else "full"


def edited_size(network: DiffusionModel, resolution: Resolution, size: tuple[int, int]) -> tuple[int, int]:
    """Return (width, height) at which an image is edited, before it is padded to the network's grid.

    One side is a multiple of the grid size, and the other is determined by the aspect ratio, rounded to pixels. Among
    these sizes, the largest is chosen whose padded size has at most `MARGIN` times the number of pixels of the
    resolution. With native, images with at least half of the pixels of the training images, up to that limit, are not
    resized.

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


def at_resolution(network: DiffusionModel, resolution: Resolution, images: Sequence[LoadedImage]) -> list[LoadedImage]:
    """Resize images to the sizes at which they are edited; an object that occurs several times is resized once."""
    made = {id(each): resized(each, edited_size(network, resolution, each.size)) for each in images}
    return [made[id(each)] for each in images]
