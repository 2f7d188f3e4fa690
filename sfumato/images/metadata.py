"""EXIF and resolution of the source file that an edit keeps, without entries that would be wrong or private."""

from typing import Any, TypeAlias

from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from sfumato.images.declared import EXIF_IFD
from sfumato.images.orientation import SIDEWAYS

Dpi: TypeAlias = tuple[float, float]
"""Horizontal and vertical resolution in pixels per inch."""

GPS_IFD = 0x8825
_ORIENTATION, _X, _Y, _UNIT = 0x0112, 0x011A, 0x011B, 0x0128
_COLOR_SPACE, _WIDTH, _HEIGHT = 0xA001, 0xA002, 0xA003
#: Description, maker, model, software, time, artist, computer, copyright.
_TEXTS = (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x013C, 0x8298)
#: Windows' title, comment, author, keywords, subject: bytes of UTF-16.
_WINDOWS = range(0x9C9B, 0x9CA0)
#: The maker's notes, and the pointer to interoperability.
_LEFT_OUT = (0x927C, 0xA005)
#: Area and position of the subject, which refer to the pixels before they are turned upright.
_SUBJECT = (0x9214, 0xA214)
_FOCAL_PLANE_X, _FOCAL_PLANE_Y = 0xA20E, 0xA20F
#: Largest EXIF block, that of a JPEG segment.
_MOST_BYTES = 65_000


def read_exif(image: Image.Image, orientation: int) -> tuple[bytes, str]:
    """The EXIF block to keep, and a note.

    The block keeps the description of the image and its author, the exposure and the GPS position. It omits thumbnails
    and maker notes, which show or describe the unedited image, and the layout of the pixels in the file.

    Args:
        image: the decoded image.
        orientation: EXIF orientation of the pixels in the file; the block is that of the upright image.

    Returns:
        The block (b"" if there is none, or none that can be kept), and a note with the reason ("" if there is none).
    """
    try:
        data = _kept(image, orientation)
    except Exception:  # EXIF is untrusted input: the image stays usable with a malformed block
        return b"", "the EXIF block is unreadable: left out"
    if len(data) > _MOST_BYTES:
        return b"", f"the EXIF block has more than {_MOST_BYTES:,} bytes: left out"
    return data, ""


def _kept(image: Image.Image, orientation: int) -> bytes:
    exif, kept = image.getexif(), Image.Exif()
    kept.update(described(exif))
    left_out = _LEFT_OUT if orientation == 1 else (*_LEFT_OUT, *_SUBJECT)
    moved = {_FOCAL_PLANE_X: _FOCAL_PLANE_Y, _FOCAL_PLANE_Y: _FOCAL_PLANE_X} if orientation in SIDEWAYS else {}
    for directory in (EXIF_IFD, GPS_IFD):
        found = {moved.get(tag, tag): value for tag, value in exif.get_ifd(directory).items() if tag not in left_out}
        if found:
            kept[directory] = found
    data: bytes = kept.tobytes() if set(kept) - {_ORIENTATION} else b""
    return data


def described(exif: Image.Exif) -> dict[int, Any]:
    """The text entries that describe an image and its author, and the orientation (reset to upright) if there is one.

    Texts are bytes, because Pillow replaces letters beyond ASCII when it writes them; texts beyond Latin-1, which only
    images in memory have, are in UTF-8. Values of other types are left
    out: libtiff fails with a segmentation fault when it writes them.
    """
    texts = {tag: _encoded(text) for tag in _TEXTS if isinstance(text := exif.get(tag), str)}
    windows = {tag: text for tag in _WINDOWS if isinstance(text := exif.get(tag), bytes)}
    return {**texts, **windows, **({_ORIENTATION: 1} if _ORIENTATION in exif else {})}


def _encoded(text: str) -> bytes:
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")


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
    kept.update(described(before))
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


def read_dpi(image: Image.Image, orientation: int) -> Dpi | None:
    """The resolution in the file's header or EXIF; None if there is none.

    Args:
        image: the decoded image.
        orientation: EXIF orientation of the pixels in the file; the resolution is that of the upright image.
    """
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
    if not (1 < x <= 100_000 and 1 < y <= 100_000):  # Pillow returns 1 for a TIFF without resolution
        return None
    return (y, x) if orientation in SIDEWAYS else (x, y)
