"""One scene: its picture, and the exact box, mask, class and words of every object in it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sfumato.data.scenes.captions import caption
from sfumato.data.scenes.grounds import GROUNDS, WHITE
from sfumato.data.scenes.layout import Box


@dataclass(frozen=True, eq=False)
class SceneObject:
    """An object as it lies in a scene.

    Attributes:
        name: what captions call it, such as "cat face".
        keywords: words that may stand in for the name.
        content: code points of the emoji without its skin tone, such as "1f431": the object's class.
        group: its group in Unicode, such as "animals-nature": a coarse class.
        file: the cut-out's file in the corpus.
        box: (left, top, right, bottom) in pixels of the scene; right and bottom exclusive.
        mask: bool [h,w], the pixels of the scene that it covers.
    """

    name: str
    keywords: Sequence[str]
    content: str
    group: str
    file: str
    box: Box
    mask: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Scene:
    """One to four objects on plain ground.

    Attributes:
        image: uint8 [3,h,w], sRGB.
        style: the drawing style of all objects, such as "noto".
        ground: the word for the ground's colour, a key of `GROUNDS`; "" for white.
        objects: in the order in which captions name them; their boxes do not overlap.
    """

    image: NDArray[np.uint8]
    style: str
    ground: str
    objects: tuple[SceneObject, ...]

    @property
    def caption(self) -> str:
        """The names of all objects, the ground and the style, such as "cat face and red apple on blue, noto"."""
        return caption([each.name for each in self.objects], self.ground, self.style)


def compose(
    cutouts: Sequence[NDArray[np.uint8]], boxes: Sequence[Box], ground: str, size: int
) -> tuple[NDArray[np.uint8], list[NDArray[np.bool_]]]:
    """Draw cut-outs into their boxes.

    Args:
        cutouts: uint8 [h,w,4] each, straight alpha.
        boxes: of the objects, in pixels of the canvas.
        ground: a key of `GROUNDS`, or "" for white.
        size: pixels along each side of the canvas.

    Returns:
        The picture, uint8 [3,size,size], and of each object where its alpha is above one half, bool [size,size].
    """
    page = Image.new("RGB", (size, size), GROUNDS.get(ground, WHITE))
    masks = []
    for cutout, (left, top, right, bottom) in zip(cutouts, boxes, strict=True):
        # Pillow resizes RGBA with premultiplied alpha: transparent pixels lend no colour to the edges.
        drawing = Image.fromarray(cutout).resize((right - left, bottom - top), Image.Resampling.LANCZOS)
        page.paste(drawing, (left, top), drawing)
        mask: NDArray[np.bool_] = np.zeros((size, size), np.bool_)
        mask[top:bottom, left:right] = np.asarray(drawing)[..., 3] > 127
        masks.append(mask)
    return np.ascontiguousarray(np.asarray(page).transpose(2, 0, 1)), masks
