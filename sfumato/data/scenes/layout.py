"""Random layout of the objects of a scene: boxes that do not overlap."""

from collections.abc import Sequence

import numpy as np

from sfumato.errors import BadInput

#: (left, top, right, bottom) in pixels; right and bottom exclusive.
Box = tuple[int, int, int, int]
#: (left, top, right, bottom) as fractions of the canvas.
Region = tuple[float, float, float, float]

#: Lower limit of the longest side of an object, as a fraction of the canvas.
SMALLEST = 0.35
#: Largest number of objects: one cut in each direction. More cuts would make regions smaller than `SMALLEST`.
MOST_OBJECTS = 4


def check_count(count: int) -> None:
    """Check the number of objects of a scene.

    Raises:
        BadInput: `count` is not in 1..MOST_OBJECTS.
    """
    if not 1 <= count <= MOST_OBJECTS:
        raise BadInput(
            f"a scene has 1 to {MOST_OBJECTS} objects of at least {SMALLEST:.0%} of the canvas, not {count}."
        )


def arrange(shapes: Sequence[tuple[int, int]], size: int, generator: np.random.Generator) -> list[Box]:
    """Draw a random box for each object; the boxes do not overlap.

    Random guillotine cuts divide the canvas into one region per object. Each object is scaled at random, so that its
    longest side is at least `SMALLEST` of the canvas and it fits into its region, and is placed at random in it.

    Args:
        shapes: width and height of each object in any unit; only their ratio is used.
        size: side of the canvas in pixels.
        generator: source of all random choices.

    Returns:
        The boxes in pixels, in the order of `shapes`.

    Raises:
        BadInput: see `check_count`.
    """
    check_count(len(shapes))
    regions = _regions(len(shapes), generator)
    return [_box(shape, region, size, generator) for shape, region in zip(shapes, regions, strict=True)]


def _regions(count: int, generator: np.random.Generator) -> list[Region]:
    regions: list[Region] = [(0.0, 0.0, 1.0, 1.0)]
    while len(regions) < count:
        i, axis = _longest_side(regions, generator)
        region = regions.pop(i)
        low, high = region[axis], region[axis + 2]
        cut = generator.uniform(low + SMALLEST, high - SMALLEST)
        before, after = list(region), list(region)
        before[axis + 2] = after[axis] = cut
        regions += [tuple(before), tuple(after)]  # type: ignore[list-item]
    order = generator.permutation(count)
    return [regions[i] for i in order]


def _longest_side(regions: Sequence[Region], generator: np.random.Generator) -> tuple[int, int]:
    """(region, axis) of the longest side of all regions; a random one of them if several are equally long."""
    sides = [(region[axis + 2] - region[axis], i, axis) for i, region in enumerate(regions) for axis in (0, 1)]
    longest = max(side for side, _, _ in sides)
    found = [(i, axis) for side, i, axis in sides if side == longest]
    return found[int(generator.integers(len(found)))]


def _box(shape: tuple[int, int], region: Region, size: int, generator: np.random.Generator) -> Box:
    left, top, right, bottom = (round(edge * size) for edge in region)
    width, height = shape
    longest = max(width, height)
    fits = min((right - left) / width, (bottom - top) / height) * longest
    side = generator.uniform(min(SMALLEST * size, fits), fits)  # rounding may make a region one pixel too short
    w, h = (max(1, int(each * side / longest)) for each in (width, height))
    x = left + int(generator.integers(right - left - w + 1))
    y = top + int(generator.integers(bottom - top - h + 1))
    return x, y, x + w, y + h
