"""What a scene is called: a few fixed patterns over names, keywords, places, ground and style.

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

#: How often an object is called by its name, else by one of its keywords.
_NAMED = 0.85
#: How often two objects are described by where they lie.
_RELATED = 0.5
#: How often the style is left out.
_UNSTYLED = 0.1


def relation(a: Box, b: Box) -> str:
    """Where `a` lies as seen from `b`, one of `RELATIONS`: along the axis on which their centres are farther apart.

    Boxes that overlap along that axis are compared along the other one; the two must not overlap on both.
    """
    dx, dy = (b[0] + b[2] - a[0] - a[2]) / 2, (b[1] + b[3] - a[1] - a[3]) / 2
    apart_x, apart_y = a[2] <= b[0] or b[2] <= a[0], a[3] <= b[1] or b[3] <= a[1]
    if apart_x and (not apart_y or abs(dx) >= abs(dy)):
        return "left of" if dx > 0 else "right of"
    return "above" if dy > 0 else "below"


def listing(names: Sequence[str]) -> str:
    """Such as "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def caption(names: Sequence[str], ground: str, style: str) -> str:
    """The caption of a scene; `ground` and `style` are left out where empty."""
    return _finished(listing(names), ground, style)


def related(names: Sequence[str], boxes: Sequence[Box], ground: str, style: str) -> str:
    """The caption of two objects that says where the first lies as seen from the second."""
    return _finished(f"{names[0]} {relation(*boxes)} {names[1]}", ground, style)


def varied(
    names: Sequence[str],
    keywords: Sequence[Sequence[str]],
    boxes: Sequence[Box],
    ground: str,
    style: str,
    generator: np.random.Generator,
) -> str:
    """A caption drawn at random: now and then a keyword for a name, the places of two objects, no style."""
    words = [_word(*pair, generator) for pair in zip(names, keywords, strict=True)]
    style = "" if generator.random() < _UNSTYLED else style
    if len(words) == 2 and generator.random() < _RELATED:
        return related(words, boxes, ground, style)
    return caption(words, ground, style)


def _word(name: str, keywords: Sequence[str], generator: np.random.Generator) -> str:
    if not keywords or generator.random() < _NAMED:
        return name
    return str(generator.choice(list(keywords)))


def _finished(objects: str, ground: str, style: str) -> str:
    return objects + (f" on {ground}" if ground else "") + (f", {style}" if style else "")
