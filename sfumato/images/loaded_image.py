"""An image as the model receives it, with the data that restore its file's alpha, colour profile and mode."""

from dataclasses import dataclass
from hashlib import sha256
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sfumato.images.colour import from_srgb
from sfumato.images.metadata import Dpi
from sfumato.images.samples import Samples16

Pixels: TypeAlias = NDArray[np.uint8]

#: Number of pixels that are composited at a time.
_BAND = 1 << 22
GREY_MODES = ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "I;16N", "F")


@dataclass(frozen=True, eq=False)
class LoadedImage:
    """One upright image read from a file.

    Attributes:
        rgb: the model's input, uint8 [h, w, 3] in sRGB, alpha composited on `background`.
        alpha: uint8 [h, w], 255 is opaque; None if the file has no alpha.
        native: uint8 [h, w, 3], the file's colours: straight (not composited), in its RGB profile `icc`.
        icc: the file's RGB profile, which is embedded in the output; None if there is no usable one.
        mode: Pillow's name of the file's pixel mode.
        name: the file's name, printable.
        note: remark on the conversion of the file, "" if there is none.
        background: sRGB colour under transparent pixels, 0..255.
        original: for an image that `resized` made, the image as it was read; otherwise None.
        samples16: uint16 [h, w] or [h, w, c], the samples of a file with 16 bits per channel, with alpha; else None.
        exif: the EXIF block to keep, b"" if there is none (`sfumato.images.metadata`).
        dpi: horizontal and vertical resolution in pixels per inch; None if the file declares none.
        file_format: Pillow's name of the file's format, "" for images in memory.
    """

    rgb: Pixels
    alpha: Pixels | None
    native: Pixels
    icc: bytes | None
    mode: str
    name: str
    note: str
    background: tuple[int, int, int] = (255, 255, 255)
    original: "LoadedImage | None" = None
    samples16: Samples16 | None = None
    exif: bytes = b""
    dpi: Dpi | None = None
    file_format: str = ""

    @property
    def full(self) -> "LoadedImage":
        """The image at its full size, as it was read."""
        return self if self.original is None else self.original

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        height, width = self.rgb.shape[:2]
        return width, height

    @property
    def grey(self) -> bool:
        """Whether the file has one colour channel."""
        return self.mode in GREY_MODES

    def restore(self, rgb: Pixels, *, alpha: bool = True, profile: bool = True) -> Pixels:
        """Convert edited sRGB pixels [h, w, 3] to the file's colours; unchanged pixels are restored bit for bit.

        Args:
            rgb: edited pixels, uint8 sRGB.
            alpha: return straight colours, to be stored with the alpha channel; False leaves them composited.
            profile: return colours in the file's profile; False leaves them in sRGB.
        """
        straight = alpha and self.alpha is not None
        colours = uncomposite(rgb, self.alpha, self.background) if straight and self.alpha is not None else rgb
        if profile and self.icc is not None:
            colours = from_srgb(colours, self.icc)
        if (self.alpha is None or straight) and (self.icc is None or profile):
            untouched = (rgb == self.rgb).all(axis=-1, keepdims=True)
            colours = np.where(untouched, self.native, colours)
        return colours

    def restore_16_bit(self, rgb: Pixels) -> Samples16:
        """Convert edited sRGB pixels [h, w, 3] to the file's samples of 16 bits per channel.

        The change of the 8-bit levels, times 257, is added to the samples, so that unchanged pixels are restored bit
        for bit and the fine levels of the others are kept. The file must have 16 bits per channel. A grey image becomes
        RGB if the edit has colours or the profile is for RGB.
        """
        assert self.samples16 is not None
        samples = self.samples16 if self.samples16.ndim == 3 else self.samples16[..., None]
        with_alpha = samples.shape[2] in (2, 4)
        colours = samples[..., :-1] if with_alpha else samples
        change = self.restore(rgb).astype(np.int32) - self.native
        if colours.shape[2] == 1 and self.icc is None and (change == change[..., :1]).all():
            change = change[..., :1]
        moved = np.clip(colours + 257 * change, 0, 65535).astype(np.uint16)
        found = np.concatenate([moved, samples[..., -1:]], axis=-1) if with_alpha else moved
        return found[..., 0] if found.shape[2] == 1 else found


def resized(image: LoadedImage, size: tuple[int, int]) -> LoadedImage:
    """Resize an image to a size that suits the model; the attribute `full` of the result is the given image.

    Args:
        image: an image as it was read.
        size: (width, height) in pixels.

    Returns:
        The opaque sRGB pixels at that size; the given image itself if it has that size.
    """
    if size == image.size:
        return image
    rgb = resized_pixels(image.rgb, size)
    return LoadedImage(rgb, None, rgb, None, "RGB", image.name, image.note, image.background, image)


def resized_pixels(rgb: Pixels, size: tuple[int, int]) -> Pixels:
    """sRGB pixels [h,w,3] at another size (width, height): Lanczos, antialiased, as in diffusers' image processors."""
    if rgb.shape[:2] == size[::-1]:
        return rgb
    return np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.LANCZOS))


def composite(straight: Pixels, alpha: Pixels, background: tuple[int, int, int]) -> Pixels:
    """C = a F + (1 - a) B, rounded to the nearest level; F [h, w, 3], a [h, w], all uint8."""
    composed, (height, width) = np.empty_like(straight), alpha.shape
    rows = max(1, _BAND // width)
    for top in range(0, height, rows):  # in bands, since Pillow makes several copies of its input
        F, a = (Image.fromarray(each[top : top + rows]) for each in (straight, alpha))
        composed[top : top + rows] = Image.composite(F, Image.new("RGB", F.size, background), a)
    return composed


def uncomposite(composed: Pixels, alpha: Pixels, background: tuple[int, int, int]) -> Pixels:
    """F = (C - (1 - a) B) / a, clipped to 0..255; C where a = 0, where the colour is invisible."""
    straight = composed.copy()
    # Only the partly transparent pixels, usually few, are converted to int32.
    seen_through = (alpha > 0) & (alpha < 255)
    a = alpha[seen_through][:, None].astype(np.int32)
    under = np.asarray(background, dtype=np.int32)
    levels = (255 * composed[seen_through].astype(np.int32) - (255 - a) * under + a // 2) // a
    straight[seen_through] = np.clip(levels, 0, 255)
    return straight


def image_fingerprint(image: LoadedImage) -> str:
    """SHA-256 of the sRGB pixels of an image at its full size, and of that size."""
    found = sha256("x".join(map(str, image.full.size)).encode())
    found.update(np.ascontiguousarray(image.full.rgb))
    return found.hexdigest()
