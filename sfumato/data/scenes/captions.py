"""Captions of scenes: fixed patterns of names, keywords, relations, background and style.

red heart, noto
cat face and red apple, twemoji
red heart left of cat face, noto
cat face, red apple and red heart, noto
cat face on blue, fluent-flat
"""

from collections.abc import Sequence

import numpy as np

from sfumato.data.scenes.layout import Box

RELATIONS = ("left of", "right of", "above", "below")

#: Probability that a random caption contains the name of an object; otherwise it contains one of its keywords.
_NAMED = 0.85
#: Probability that a random caption of two objects contains their relation.
_RELATED = 0.5
#: Probability that a random caption does not contain the style.
_UNSTYLED = 0.1


def relation(a: Box, b: Box) -> str:
    """Position of box `a` relative to box `b`: one of `RELATIONS`.

    It is along the axis with the larger distance of the centres. If the boxes overlap along that axis, the other axis
    is used; the boxes must not overlap along both.
    """
    dx, dy = (b[0] + b[2] - a[0] - a[2]) / 2, (b[1] + b[3] - a[1] - a[3]) / 2
    apart_x, apart_y = a[2] <= b[0] or b[2] <= a[0], a[3] <= b[1] or b[3] <= a[1]
    if apart_x and (not apart_y or abs(dx) >= abs(dy)):
        return "left of" if dx > 0 else "right of"
    return "above" if dy > 0 else "below"


def listing(names: Sequence[str]) -> str:
    """Join names as "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def caption(names: Sequence[str], ground: str, style: str) -> str:
    """Main caption of a scene; empty `ground` and `style` are left out."""
    return _finished(listing(names), ground, style)


def related(names: Sequence[str], boxes: Sequence[Box], ground: str, style: str) -> str:
    """Caption of a scene of two objects, with the position of the first relative to the second."""
    return _finished(f"{names[0]} {relation(*boxes)} {names[1]}", ground, style)


def varied(
    names: Sequence[str],
    keywords: Sequence[Sequence[str]],
    boxes: Sequence[Box],
    ground: str,
    style: str,
    generator: np.random.Generator,
) -> tuple[str, list[str]]:
    """Random caption of a scene, and the name or keyword of every object in it.

    At random it contains keywords instead of names, the relation of two objects, and no style.

    Args:
        names: names of the objects.
        keywords: keywords of each object; may be empty.
        boxes: their boxes in pixels.
        ground: the word for the background colour; "" for white.
        style: the drawing style.
        generator: source of all random choices.
    """
    words = [_word(*pair, generator) for pair in zip(names, keywords, strict=True)]
    style = "" if generator.random() < _UNSTYLED else style
    if len(words) == 2 and generator.random() < _RELATED:
        return related(words, boxes, ground, style), words
    return caption(words, ground, style), words


def _word(name: str, keywords: Sequence[str], generator: np.random.Generator) -> str:
    if not keywords or generator.random() < _NAMED:
        return name
    return str(generator.choice(list(keywords)))


def _finished(objects: str, ground: str, style: str) -> str:
    return objects + (f" on {ground}" if ground else "") + (f", {style}" if style else "")
