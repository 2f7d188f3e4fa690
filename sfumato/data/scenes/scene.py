"""A scene: its image, and the box, mask, class and words of every object."""

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
    """An object in a scene.

    Attributes:
        name: its name in captions, such as "cat face".
        keywords: words that may replace the name in captions.
        content: class of the object: code points of the emoji without skin tone, such as "1f431".
        group: coarse class of the object: its group in Unicode, such as "animals-nature".
        file: image of the object in the corpus.
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
    """One to four objects on a plain background.

    Attributes:
        image: uint8 [3,h,w], sRGB.
        style: the drawing style of all objects, such as "noto".
        ground: the word for the background colour, a key of `GROUNDS`; "" for white.
        objects: the objects, in the order of their names in captions; their boxes do not overlap.
    """

    image: NDArray[np.uint8]
    style: str
    ground: str
    objects: tuple[SceneObject, ...]

    @property
    def caption(self) -> str:
        """Main caption: names of all objects, background and style, as "cat face and red apple on blue, noto"."""
        return caption([each.name for each in self.objects], self.ground, self.style)


def compose(
    cutouts: Sequence[NDArray[np.uint8]], boxes: Sequence[Box], ground: str, size: int
) -> tuple[NDArray[np.uint8], list[NDArray[np.bool_]]]:
    """Scale cut-outs to their boxes and draw them on a plain background.

    Args:
        cutouts: the objects, uint8 [h,w,4] each, straight alpha.
        boxes: their boxes, in pixels of the canvas.
        ground: a key of `GROUNDS`, or "" for white.
        size: pixels along each side of the canvas.

    Returns:
        The image, uint8 [3,size,size], and the mask of each object, bool [size,size], where its alpha is above 1/2.
    """
    page = Image.new("RGB", (size, size), GROUNDS.get(ground, WHITE))
    masks = []
    for cutout, (left, top, right, bottom) in zip(cutouts, boxes, strict=True):
        # Pillow resizes RGBA with premultiplied alpha, so transparent pixels do not change the colour of the edges.
        drawing = Image.fromarray(cutout).resize((right - left, bottom - top), Image.Resampling.LANCZOS)
        page.paste(drawing, (left, top), drawing)
        mask: NDArray[np.bool_] = np.zeros((size, size), np.bool_)
        mask[top:bottom, left:right] = np.asarray(drawing)[..., 3] > 127
        masks.append(mask)
    return np.ascontiguousarray(np.asarray(page).transpose(2, 0, 1)), masks
