"""Changes of objects as entries of `methods`: `inverted.edit(methods=[move("fox", right=0.2), resize("ball", 1.5)])`.

Every function returns an entry for the method self-guidance (arXiv 2306.00986). All entries of a list are combined,
with one gradient per step. In generated images, move, resize, reshape and swap are relative to the image that the same
seed gives without them. Options that do not refer to an object are given by name: `("self-guidance",
{"energy_scale": 2.0})`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

from sfumato.errors import BadInput

METHOD = "self-guidance"
Path: TypeAlias = "str | os.PathLike[str]"


class Change(NamedTuple):
    """An entry of `methods`, which is combined with other entries of the same method.

    Attributes:
        method: name of the method.
        options: options of the method; those in `LISTS` are concatenated, all others may be given only once.
    """

    method: str
    options: Mapping[str, Any]


LISTS = ("move", "resize", "reshape", "swap", "place", "cover", "box", "restyle", "objects_from")
"""Options whose value can have several parts, separated by semicolons."""


def move(word: str, *, right: float = 0.0, down: float = 0.0) -> Change:
    """Move an object.

    Args:
        word: the object, a word or phrase of both prompts.
        right: displacement as a fraction of the width, above -1 and below 1; negative is to the left.
        down: displacement as a fraction of the height, above -1 and below 1; negative is up.
    """
    return _change("move", word, f"{right!r}, {down!r}")


def resize(word: str, factor: float) -> Change:
    """Scale an object about its centre.

    Args:
        word: the object, a word or phrase of both prompts.
        factor: factor of its width and height, 0.1 to 10.
    """
    return _change("resize", word, f"{factor!r}")


def reshape(word: str, *, width: float = 1.0, height: float = 1.0, angle: float = 0.0) -> Change:
    """Scale the sides of an object and rotate it about its centre.

    Args:
        word: the object, a word or phrase of both prompts.
        width: factor of its width, 0.1 to 10.
        height: factor of its height, 0.1 to 10.
        angle: rotation in degrees, -360 to 360, clockwise.
    """
    return _change("reshape", word, f"{width!r}, {height!r}, {angle!r}")


def swap(word: str, other: str) -> Change:
    """Exchange the positions of two objects; each keeps its size, shape and appearance.

    Args:
        word: the first object, a word or phrase of both prompts.
        other: the second object.
    """
    return Change(METHOD, {"swap": f"{_plain(word)}, {_plain(other)}"})


def place(word: str, x: float, y: float) -> Change:
    """Place the centre of an object at a point; also for generated images.

    Args:
        word: the object, a word or phrase of the target prompt.
        x: horizontal position as a fraction of the width, 0 (left) to 1 (right).
        y: vertical position as a fraction of the height, 0 (top) to 1 (bottom).
    """
    return _change("place", word, f"{x!r}, {y!r}")


def cover(word: str, share: float) -> Change:
    """Set the area of an object; also for generated images.

    Args:
        word: the object, a word or phrase of the target prompt.
        share: its area as a fraction of the image, above 0 and at most 1.
    """
    return _change("cover", word, f"{share!r}")


def box(word: str, left: float, top: float, right: float, bottom: float) -> Change:
    """Place an object in a box, with its centre and its mask; also for generated images.

    Args:
        word: the object, a word or phrase of the target prompt.
        left: left edge as a fraction of the width, 0 to 1.
        top: upper edge as a fraction of the height, 0 to 1.
        right: right edge as a fraction of the width, above `left`, at most 1.
        bottom: lower edge as a fraction of the height, above `top`, at most 1.
    """
    return _change("box", word, f"{left!r}, {top!r}, {right!r}, {bottom!r}")


def restyle(word: str, image: Path, prompt: str, *, there: str = "") -> Change:
    """Give an object the appearance of an object in another image; also for generated images.

    Args:
        word: the object, a word or phrase of the target prompt.
        image: file of the other image.
        prompt: prompt of the other image.
        there: word or phrase of `prompt` for the object of the other image; `word` by default.
    """
    return _from_image("restyle", word, image, prompt, there)


def object_from(word: str, image: Path, prompt: str, *, there: str = "") -> Change:
    """Take the position, shape and appearance of an object from another image; the arguments are those of `restyle`."""
    return _from_image("objects_from", word, image, prompt, there)


def appearance_from(image: Path, prompt: str) -> Change:
    """Take the appearance of all words of `prompt` from the image that it describes; also for generated images."""
    return Change(METHOD, {"appearance_from": os.fspath(image), "appearance_prompt": prompt})


def layout_from(image: Path, prompt: str) -> Change:
    """Take the shapes of all words of `prompt` from the image that it describes; also for generated images."""
    return Change(METHOD, {"layout_from": os.fspath(image), "layout_prompt": prompt})


def joined(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Combine the options of two entries of a method; options in `LISTS` are concatenated.

    Raises:
        BadInput: both entries give an option that is not in `LISTS`.
    """
    found = dict(first)
    for name, value in second.items():
        if name not in found:
            found[name] = value
        elif name in LISTS:
            found[name] = f"{found[name]}; {value}"
        else:
            raise BadInput(f"{name} is given twice: give it once.")
    return found


def _from_image(option: str, word: str, image: Path, prompt: str, there: str) -> Change:
    path = _plain(os.fspath(image))
    if ";" in prompt:
        raise BadInput(f'The prompt of another image must not contain a semicolon, not "{prompt}".')
    return _change(option, f"{_plain(word)}={_plain(there)}" if there else word, f"{path}: {prompt}")


def _change(option: str, word: str, value: str) -> Change:
    return Change(METHOD, {option: f"{_plain(word)}: {value}"})


def _plain(text: str) -> str:
    """Strip a word or path. Raises BadInput if it is empty or contains a separator, ";" or ":"."""
    if not text.strip() or any(mark in text for mark in ";:"):
        raise BadInput(f'A word or file must not be empty and must not contain ";" or ":", not "{text}".')
    return text.strip()
