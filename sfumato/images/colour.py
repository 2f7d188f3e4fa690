"""Colour conversion from a file's mode and ICC profile to 8-bit sRGB, and back to the profile."""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from sfumato.errors import BadInput
from sfumato.images.grey_profile import rgb_profile_of_grey

_SRGB = ImageCms.createProfile("sRGB")
_FLAGS = ImageCms.Flags.BLACKPOINTCOMPENSATION
_INTENT = ImageCms.Intent.RELATIVE_COLORIMETRIC
# The profile's colour space -> the Pillow modes whose pixels it describes.
_SPACES = {"GRAY": ("L",), "RGB": ("L", "RGB"), "CMYK": ("CMYK",), "Lab": ("LAB",)}


@dataclass(frozen=True, eq=False)
class Colours:
    """Opaque colours of one image.

    Attributes:
        srgb: uint8 [h, w, 3] in sRGB.
        native: uint8 [h, w, 3] in the file's profile `icc`, or in sRGB if that is None.
        icc: the file's RGB profile, or the one equivalent to its grey profile; None if there is no usable one.
        note: remark on the conversion, such as a profile that was ignored; "" if there is none.
    """

    srgb: NDArray[np.uint8]
    native: NDArray[np.uint8]
    icc: bytes | None
    note: str


def to_srgb(image: Image.Image, icc: bytes | None) -> Colours:
    """Convert an opaque 8-bit image (L, RGB, CMYK, YCbCr, LAB) to sRGB, by its ICC profile if that is usable."""
    if icc is None:
        plain = _without_profile(image)
        note = "CMYK without a profile: converted to sRGB by formula" if image.mode == "CMYK" else ""
        return Colours(plain, plain, None, note)
    space = _colour_space(icc)
    if space is None or image.mode not in _SPACES.get(space, ()):
        reason = "is unreadable" if space is None else f"is for {space}, the pixels are {image.mode}"
        plain = _without_profile(image)
        return Colours(plain, plain, None, f"the embedded colour profile {reason}: ignored, taken as sRGB")
    if space == "GRAY" and (equivalent := rgb_profile_of_grey(icc)):
        space, icc = "RGB", equivalent
    # A grey image with an RGB profile is read as the grey axis of that profile.
    image = image.convert("RGB") if space == "RGB" else image
    try:
        srgb = _transform(image, _open_profile(icc), _SRGB)
    except (ImageCms.PyCMSError, OSError, ValueError):
        plain = _without_profile(image)
        return Colours(plain, plain, None, "the embedded colour profile is unusable: ignored, taken as sRGB")
    if space != "RGB":
        return Colours(srgb, srgb, None, f"converted from the embedded {space} profile: the output is sRGB")
    if not _invertible(icc):
        return Colours(srgb, srgb, None, "the embedded profile has no conversion from sRGB: the output is sRGB")
    return Colours(srgb, np.asarray(image, dtype=np.uint8), icc, "")


def from_srgb(rgb: NDArray[np.uint8], icc: bytes) -> NDArray[np.uint8]:
    """Convert sRGB uint8 [h, w, 3] to the colours of an RGB profile that `to_srgb` returned."""
    return _transform(Image.fromarray(rgb), _SRGB, _open_profile(icc))


def to_eight_bits(image: Image.Image, name: str) -> Image.Image:
    """Convert a one-channel image of 16-bit integers or of floats in [0, 1] to mode L, rounded to the nearest level.

    Raises:
        BadInput: a value is outside 0..65535 (integers) or 0..1 (floats), so that the white level is unknown.
    """
    values = np.asarray(image)
    white = 1.0 if values.dtype.kind == "f" else 65535.0
    if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= white):
        raise BadInput(f"{name} contains samples outside 0..{white:g}: save it with 8 or 16 bits per channel.")
    levels = np.rint(values.astype(np.float64) * (255.0 / white))
    return Image.fromarray(levels.astype(np.uint8))


def _without_profile(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode == "LAB":
        return _transform(image, ImageCms.createProfile("LAB"), _SRGB)
    return np.asarray(image.convert("RGB"), dtype=np.uint8)


def _open_profile(icc: bytes) -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(io.BytesIO(icc))


def _colour_space(icc: bytes) -> str | None:
    try:
        return str(_open_profile(icc).profile.xcolor_space).strip()
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None


def _invertible(icc: bytes) -> bool:
    try:
        from_srgb(np.zeros((1, 1, 3), dtype=np.uint8), icc)
    except (ImageCms.PyCMSError, OSError, ValueError):
        return False
    return True


def _transform(image: Image.Image, source: object, target: object) -> NDArray[np.uint8]:
    transform = ImageCms.buildTransform(source, target, image.mode, "RGB", _INTENT, _FLAGS)
    converted = ImageCms.applyTransform(image, transform)
    return np.asarray(converted, dtype=np.uint8)
