"""EXIF and resolution: what is kept of the source's file, without what would be wrong or private in the edit's."""

from typing import Any, TypeAlias

from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from sfumato.images.declared import EXIF_IFD

Dpi: TypeAlias = tuple[float, float]
"""Horizontal and vertical resolution in pixels per inch."""

GPS_IFD = 0x8825
_ORIENTATION, _X, _Y, _UNIT = 0x0112, 0x011A, 0x011B, 0x0128
_COLOR_SPACE, _WIDTH, _HEIGHT = 0xA001, 0xA002, 0xA003
#: Description, maker, model, software, time, artist, computer, copyright, Windows' title, comment, author, ...
_DESCRIPTIVE = (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x013C, 0x8298, *range(0x9C9B, 0x9CA0))
#: The maker's notes, and the pointer to interoperability.
_LEFT_OUT = (0x927C, 0xA005)
#: Largest EXIF block, that of a JPEG segment.
_MOST_BYTES = 65_000
UNREADABLE = "the EXIF block is unreadable: left out"


def read_exif(image: Image.Image) -> bytes:
    """The EXIF block to keep, b"" if there is none.

    Kept are the description of the image and its maker, the exposure and the position. Left out are thumbnails and
    maker's notes, which show or describe the unedited image, and the layout of the pixels in the file.

    Raises:
        Exception: of any type, for a malformed block.
    """
    exif, kept = image.getexif(), Image.Exif()
    for tag in _DESCRIPTIVE:
        if tag in exif:
            kept[tag] = exif[tag]
    for directory in (EXIF_IFD, GPS_IFD):
        if found := {tag: value for tag, value in exif.get_ifd(directory).items() if tag not in _LEFT_OUT}:
            kept[directory] = found
    if not kept:
        return b""
    if _ORIENTATION in exif:
        kept[_ORIENTATION] = 1  # the pixels are upright
    data: bytes = kept.tobytes()
    return data if len(data) <= _MOST_BYTES else b""


def exif_to_write(data: bytes, size: tuple[int, int], *, keep_gps: bool, srgb: bool, dpi: Dpi | None = None) -> bytes:
    """The EXIF block of an edit.

    Args:
        data: from `read_exif`.
        size: (width, height) of the edit in pixels.
        keep_gps: keep the GPS directory.
        srgb: whether the pixels are written as sRGB without a profile.
        dpi: stored in the block, for formats without another place.

    Returns:
        The block, b"" if nothing is left.
    """
    before, kept = Image.Exif(), Image.Exif()
    if data:
        before.load(data)
    for tag in (*_DESCRIPTIVE, _ORIENTATION):
        if tag in before:
            kept[tag] = before[tag]
    tags: dict[int, Any] = dict(before.get_ifd(EXIF_IFD))
    changed = {_WIDTH: size[0], _HEIGHT: size[1]} | ({_COLOR_SPACE: 1} if srgb else {})
    tags |= {tag: value for tag, value in changed.items() if tag in tags}
    if tags:
        kept[EXIF_IFD] = tags
    if keep_gps and (place := dict(before.get_ifd(GPS_IFD))):
        kept[GPS_IFD] = place
    if dpi is not None:
        kept[_X], kept[_Y], kept[_UNIT] = (
            IFDRational(round(dpi[0] * 100), 100),
            IFDRational(round(dpi[1] * 100), 100),
            2,
        )
    return kept.tobytes() if kept else b""


def has_position(data: bytes) -> bool:
    """Whether an EXIF block from `read_exif` has a GPS directory."""
    if not data:
        return False
    exif = Image.Exif()
    exif.load(data)
    return bool(exif.get_ifd(GPS_IFD))


def read_dpi(image: Image.Image) -> Dpi | None:
    """The resolution that the file declares, from its header or from EXIF; None if there is none."""
    found = image.info.get("dpi")
    try:
        if image.format in ("JPEG", "MPO") and not image.info.get("jfif_unit") and _X not in image.getexif():
            return None  # Pillow then assumes 72
        if found is None:
            exif = image.getexif()
            scale = {2: 1.0, 3: 2.54}.get(exif.get(_UNIT, 2), 0.0)
            found = (scale * float(exif[_X]), scale * float(exif[_Y])) if _X in exif and _Y in exif else (0.0, 0.0)
        x, y = (float(each) for each in found)
    except Exception:  # untrusted input
        return None
    return (x, y) if 1 < x <= 100_000 and 1 < y <= 100_000 else None  # 1 is what Pillow says of none in a TIFF
