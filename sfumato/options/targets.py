"""Parsing of targets of objects that do not depend on a source: points, shares of the image and boxes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, NamedTuple

from sfumato.errors import BadInput
from sfumato.options.objects import read_numbers
from sfumato.ranges import Range

if TYPE_CHECKING:
    from sfumato.shifts.energy.warp import Warp

_SHARE = Range(low=0, high=1)


class Target(NamedTuple):
    """The target of one object.

    Attributes:
        option: "place", "cover" or "box".
        word: the object, see `sfumato.options.objects.key_of`.
        numbers: centre (x, y), share of the image, or left, top, right and bottom edge.
    """

    option: str
    word: str
    numbers: tuple[float, ...]


def parse_targets(place: str, cover: str, box: str) -> list[Target]:
    """Parse the options of targets.

    Args:
        place: "WORD: X, Y", centres, each number between 0 and 1.
        cover: "WORD: SHARE", shares of the image, above 0 and at most 1.
        box: "WORD: LEFT, TOP, RIGHT, BOTTOM", edges between 0 and 1.

    Raises:
        BadInput: the text has another form, a number is out of range, a word occurs twice in one option, or a box is
            empty.
    """
    found = {
        "place": read_numbers("place", place, [_SHARE] * 2, 2),
        "cover": read_numbers("cover", cover, [Range(above=0, high=1)], 1),
        "box": read_numbers("box", box, [_SHARE] * 4, 4),
    }
    for word, (left, top, right, bottom) in found["box"].items():
        if left >= right or top >= bottom:
            raise BadInput(
                f'box of "{word}" must have left below right and top below bottom, not {left:g}, {top:g}, {right:g}, '
                f"{bottom:g}."
            )
    return [Target(option, word, numbers) for option, words in found.items() for word, numbers in words.items()]


def check_contradictions(targets: list[Target], moved: Collection[str], scaled: Collection[str]) -> None:
    """Check that no object has two target positions or two target sizes; a box sets both.

    Args:
        targets: the targets.
        moved: words of move and swap.
        scaled: words of resize and reshape.

    Raises:
        BadInput: an object has two.
    """
    words = {option: {each.word for each in targets if each.option == option} for option in ("place", "cover", "box")}
    for option, others, other in (
        ("place", "move or swap", {*moved}),
        ("cover", "resize or reshape", {*scaled}),
        ("box", "place or cover", words["place"] | words["cover"]),
        ("box", "move, swap, resize or reshape", {*moved, *scaled}),
    ):
        if both := sorted(words[option] & other):
            raise BadInput(f'{option} and {others} contradict each other for "{both[0]}": give one of them.')


def check_cells(changes: Mapping[str, Warp], targets: list[Target], grid: tuple[int, int]) -> None:
    """Check that attention maps can represent the sizes: at least a cell, and at most all cells of a side.

    Args:
        changes: affine maps by word.
        targets: the targets.
        grid: height and width of the attention maps in cells.

    Raises:
        BadInput: a factor would make every object smaller than a cell or larger than the image, or a box is smaller
            than a cell.
    """
    most = max(grid)
    for word, warp in changes.items():
        for factor in (warp.width, warp.height):
            if not 1 / most <= factor <= most:
                raise BadInput(
                    f"A factor of {factor:g} makes any object smaller than a cell of the attention maps ({grid[1]} x "
                    f'{grid[0]} cells at this size) or larger than the image: give "{word}" one between {1 / most:g} '
                    f"and {most}."
                )
    for option, word, numbers in targets:
        if option == "box":
            left, top, right, bottom = numbers
            if (right - left) * grid[1] < 1 or (bottom - top) * grid[0] < 1:
                raise BadInput(
                    f'box of "{word}" is smaller than a cell of the attention maps, 1/{grid[1]} of the width and '
                    f"1/{grid[0]} of the height at this size: make it larger."
                )
