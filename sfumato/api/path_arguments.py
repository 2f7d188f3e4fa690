"""Checks of the arguments of an interpolation that do not import torch."""

import os
from collections.abc import Sequence

from sfumato.errors import BadInput
from sfumato.networks.image_networks import check_perceptual


def check_measured(
    kind: str, measure: bool, rank: int | None, chunk: int | None, lpips: str | os.PathLike[str] | None
) -> None:
    """Check that options of the metric are given only for paths that use it; the arguments are those of `interpolate`.

    Raises:
        BadInput: an option has no effect, or the files of the network cannot be used.
    """
    for name, value, meaning in (
        ("rank", rank, "the dimension of tangent spaces"),
        ("chunk", chunk, "the batch size of products with the Jacobian"),
    ):
        if value is not None and kind != "geodesic" and not measure:
            raise BadInput(f'{name} is {meaning}, which only the path "geodesic" and measure use: leave it out.')
    if lpips is not None and not measure:
        raise BadInput(
            "lpips is the network of the perceptual length, which only measure uses: give both, or leave lpips out."
        )
    if lpips is not None:
        check_perceptual(lpips)


def check_one_size(sizes: Sequence[tuple[int, int]]) -> None:
    """Check that two images have one size.

    Args:
        sizes: their (width, height) in pixels.

    Raises:
        BadInput: they differ.
    """
    if sizes[0] != sizes[1]:
        a, b = (f"{width} x {height}" for width, height in sizes)
        raise BadInput(f"A path needs two images of one size, not {a} and {b}: crop or scale one.")
