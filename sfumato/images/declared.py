"""Colour spaces declared without an ICC profile: PNG chunks, EXIF, and the nclx boxes of AVIF and HEIC."""

import struct
from collections.abc import Mapping
from typing import Any, BinaryIO

from PIL import Image

from sfumato.images.matrix_profile import ADOBE_RGB, CODED, D65, SRGB, Point, Primaries, matrix_profile, srgb_curve

EXIF_IFD = 0x8769
_COLOR_SPACE, _INTEROPERABILITY = 0xA001, 0xA005
_WANTED = (b"cICP", b"sRGB", b"gAMA", b"cHRM")
#: Limits: number of chunks before the pixels, bytes of one chunk, and bytes of an AVIF or HEIC that are read.
_CHUNKS, _LONGEST, _HEAD = 4096, 64, 1 << 16
#: Value of gAMA for 1 / 2.2, which programs write for sRGB; tolerance for equal chromaticities.
_USUAL_GAMMA, _CLOSE = 45455, 0.002
_HDR = {16: "PQ", 18: "HLG"}
_GAMMAS: dict[int, Any] = {4: 2.2, 5: 2.8, 8: 1.0} | dict.fromkeys((1, 6, 13, 14, 15), srgb_curve)


def declared_profile(image: Image.Image, *, from_file: bool = True) -> tuple[bytes | None, str]:
    """The ICC profile of an image file's pixels, and a note.

    This is the embedded profile, or a profile created from the declared colour space. In a PNG a cICP chunk takes
    precedence over a profile, which takes precedence over sRGB, gAMA and cHRM (PNG, third edition, section 4.3).

    Args:
        image: an opened image whose pixels need not be decoded.
        from_file: read the file of the image; False uses only the data that Pillow has already read, for Pillow images
            whose file may be closed.

    Returns:
        The profile (None for sRGB), and a note for the user ("" if there is none).
    """
    embedded = image.info.get("icc_profile") or None
    embedded = embedded if isinstance(embedded, bytes) else None
    file: BinaryIO | None = getattr(image, "fp", None) if from_file else None
    if image.format == "PNG":
        chunks = _known(image.info) if file is None else _chunks(file)
        if len(code := chunks.get(b"cICP", b"")) == 4:
            return _coded(code[0], code[1], "the cICP chunk", embedded)
        return (embedded, "") if embedded or b"sRGB" in chunks else _by_gamma(chunks)
    if embedded:
        return embedded, ""
    if image.format in ("AVIF", "HEIF"):
        return (None, "") if file is None else _by_box(file)
    return _by_exif(image)


def _coded(primaries: int, transfer: int, where: str, embedded: bytes | None) -> tuple[bytes | None, str]:
    """The profile of codes of ITU-T H.273; the note names unknown codes."""
    if transfer in _HDR:
        return (
            embedded,
            f"{where} declares high dynamic range ({_HDR[transfer]}): read as standard range, colours differ",
        )
    if primaries not in CODED or transfer not in _GAMMAS:
        known = (primaries, transfer) in ((2, 2), (2, 13), (1, 2))
        return embedded, "" if known else f"{where} declares colours of code {primaries}, {transfer}: read as sRGB"
    if CODED[primaries] == SRGB and _GAMMAS[transfer] is srgb_curve:
        return None, ""
    return matrix_profile(CODED[primaries], D65, _GAMMAS[transfer]), f"colours converted as {where} declares"


def _by_gamma(chunks: Mapping[bytes, bytes]) -> tuple[bytes | None, str]:
    """Profile from gAMA and cHRM. A gamma of 1 / 2.2 with the primaries of sRGB is read as sRGB."""
    gamma, white, primaries = _USUAL_GAMMA, D65, SRGB
    if len(data := chunks.get(b"gAMA", b"")) == 4:
        (gamma,) = struct.unpack(">I", data)
    if len(data := chunks.get(b"cHRM", b"")) == 32:
        x = [value / 100_000 for value in struct.unpack(">8I", data)]
        white, primaries = (x[0], x[1]), ((x[2], x[3]), (x[4], x[5]), (x[6], x[7]))
    if abs(gamma - _USUAL_GAMMA) <= 100 and _same(primaries, white):
        return None, ""
    if not 10_000 <= gamma <= 200_000 or not _valid(primaries, white):
        return None, "its gAMA and cHRM chunks are invalid: read as sRGB"
    curve = srgb_curve if b"gAMA" not in chunks else 100_000 / gamma
    return matrix_profile(primaries, white, curve), "colours converted as its gAMA and cHRM chunks declare"


def _by_exif(image: Image.Image) -> tuple[bytes | None, str]:
    """Adobe RGB as cameras declare it: EXIF ColorSpace 2, or 65535 with the interoperability index R03."""
    try:
        tags = image.getexif().get_ifd(EXIF_IFD)
        space = tags.get(_COLOR_SPACE)
        index = image.getexif().get_ifd(_INTEROPERABILITY).get(1) if _INTEROPERABILITY in _raw(image) else None
    except Exception:  # EXIF is untrusted input
        return None, ""
    if space == 2 or (space == 0xFFFF and str(index).startswith("R03")):
        return matrix_profile(ADOBE_RGB, D65, 563 / 256), "colours converted from Adobe RGB, which EXIF declares"
    return None, "EXIF declares another colour space than sRGB without a profile: read as sRGB" * (space == 0xFFFF)


def _raw(image: Image.Image) -> dict[int, Any]:
    """The EXIF directory with the pointers to its sub-directories, which `get_ifd` omits."""
    exif = image.getexif()
    exif.get_ifd(EXIF_IFD)
    return dict(getattr(exif, "_ifds", {}).get(EXIF_IFD, {}))


def _by_box(file: BinaryIO) -> tuple[bytes | None, str]:
    """The first box "colr" of the type "nclx" of an AVIF or HEIC."""
    before = file.tell()
    file.seek(0)
    head = file.read(_HEAD)
    file.seek(before)
    place = head.find(b"colrnclx")
    if place < 0 or len(head) < place + 12:
        return None, ""
    primaries, transfer = struct.unpack(">HH", head[place + 8 : place + 12])
    return _coded(primaries, transfer, "the file", None)


def _chunks(file: BinaryIO) -> dict[bytes, bytes]:
    """Contents of a PNG's colour chunks before its pixels; only the first chunk of each type is used."""
    before, found = file.tell(), dict[bytes, bytes]()
    file.seek(8)
    for _ in range(_CHUNKS):
        header = file.read(8)
        length, kind = int.from_bytes(header[:4], "big"), header[4:]
        if len(header) < 8 or kind == b"IDAT":
            break
        if kind in _WANTED and length <= _LONGEST:
            found.setdefault(kind, file.read(length))
            file.seek(4, 1)
        else:
            file.seek(length + 4, 1)
    file.seek(before)
    return found


def _known(info: Mapping[Any, Any]) -> dict[bytes, bytes]:
    """Reconstruct these chunks from the data that Pillow has read (without cICP)."""
    found = {b"sRGB": b"\0"} if "srgb" in info else {}
    for kind, name, count in ((b"gAMA", "gamma", 1), (b"cHRM", "chromaticity", 8)):
        values = info.get(name, ())
        levels = [round(each * 100_000) for each in (values if isinstance(values, tuple) else (values,))]
        if len(levels) == count and all(0 <= each < 1 << 32 for each in levels):
            found[kind] = struct.pack(f">{count}I", *levels)
    return found


def _same(primaries: Primaries, white: Point) -> bool:
    pairs = zip((*primaries, white), (*SRGB, D65), strict=True)
    return all(abs(a - b) <= _CLOSE for one, other in pairs for a, b in zip(one, other, strict=True))


def _valid(primaries: Primaries, white: Point) -> bool:
    """Whether the points span a triangle and white, which is near the daylights, is inside."""
    (a, b, c), p = primaries, white

    def side(u: Point, v: Point, w: Point) -> float:
        return (v[0] - u[0]) * (w[1] - u[1]) - (v[1] - u[1]) * (w[0] - u[0])

    area = side(a, b, c)
    inside = all(side(u, v, p) * area > 0 for u, v in ((a, b), (b, c), (c, a)))
    # Within these bounds the numbers of a profile stay finite.
    near = 0.2 <= p[0] <= 0.5 and 0.25 <= p[1] <= 0.5 and sum(p) <= 0.95
    return abs(area) > 1e-3 and inside and near and all(x <= 1 and 0 < y <= 1 for x, y in primaries)
