"""The picture as the model sees it, with what is needed to give its file back."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sfumato.images.colour import from_srgb

Pixels: TypeAlias = NDArray[np.uint8]

#: Pixels that are composed at a time.
_BAND = 1 << 22
GREY_MODES = ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "I;16N", "F")


@dataclass(frozen=True, eq=False)
class Picture:
    """One upright image read from a file.

    rgb: uint8 [h, w, 3], sRGB, alpha composited on `background`: what the model sees.
    alpha: uint8 [h, w], 255 = opaque; None when the file has none.
    native: uint8 [h, w, 3], the file's own colours: straight (not composited), in its own RGB profile.
    icc: the file's RGB profile, to be embedded in the output; None when it had none that can be kept.
    mode: Pillow's name of the file's pixel mode; background: sRGB, 0..255.
    name: the file's name, printable; note: what the reader had to decide, "" if nothing.
    """

    rgb: Pixels
    alpha: Pixels | None
    native: Pixels
    icc: bytes | None
    mode: str
    name: str
    note: str
    background: tuple[int, int, int] = (255, 255, 255)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        height, width = self.rgb.shape[:2]
        return width, height

    @property
    def grey(self) -> bool:
        """Whether the file held one colour channel."""
        return self.mode in GREY_MODES

    def restore(self, rgb: Pixels, *, alpha: bool = True, profile: bool = True) -> Pixels:
        """Edited sRGB pixels [h, w, 3] -> the file's own colours; untouched pixels come back bit for bit.

        alpha: give straight colours, to be stored beside the alpha; else leave them composited.
        profile: give colours in the file's profile; else sRGB.
        """
        straight = alpha and self.alpha is not None
        colours = uncomposite(rgb, self.alpha, self.background) if straight and self.alpha is not None else rgb
        if profile and self.icc is not None:
            colours = from_srgb(colours, self.icc)
        if (self.alpha is None or straight) and (self.icc is None or profile):
            untouched = (rgb == self.rgb).all(axis=-1, keepdims=True)
            colours = np.where(untouched, self.native, colours)
        return colours


def composite(straight: Pixels, alpha: Pixels, background: tuple[int, int, int]) -> Pixels:
    """C = a F + (1 - a) B, rounded to the nearest level; F [h, w, 3], a [h, w], all uint8."""
    composed, (height, width) = np.empty_like(straight), alpha.shape
    rows = max(1, _BAND // width)
    for top in range(0, height, rows):  # in bands: Pillow's copies of a large picture fill the memory
        F, a = (Image.fromarray(each[top : top + rows]) for each in (straight, alpha))
        composed[top : top + rows] = Image.composite(F, Image.new("RGB", F.size, background), a)
    return composed


def uncomposite(composed: Pixels, alpha: Pixels, background: tuple[int, int, int]) -> Pixels:
    """F = (C - (1 - a) B) / a, clipped to 0..255; C itself where a = 0, which nobody sees."""
    straight = composed.copy()
    # Seldom many pixels: the wide integers are made for these only.
    seen_through = (alpha > 0) & (alpha < 255)
    a = alpha[seen_through][:, None].astype(np.int32)
    under = np.asarray(background, dtype=np.int32)
    levels = (255 * composed[seen_through].astype(np.int32) - (255 - a) * under + a // 2) // a
    straight[seen_through] = np.clip(levels, 0, 255)
    return straight
