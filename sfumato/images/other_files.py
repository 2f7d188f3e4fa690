"""Describe files that are not images in a supported format, from their first bytes."""

import re

from sfumato.downloads import mistaken

_READS = "sfumato reads PNG, JPEG, WebP, TIFF, BMP, GIF, AVIF and HEIC"
#: Name of an image format that is not supported, and the beginning of its files.
_FORMATS = {
    "a JPEG 2000 image": rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51",
    "a JPEG XL image": rb"\0\0\0\x0cJXL \r\n\x87\n|\xff\x0a",
    "an icon (ICO)": rb"\0\0[\1\2]\0[^\0]",
    "a Photoshop document (PSD)": rb"8BPS",
    "a GIMP document (XCF)": rb"gimp xcf",
    "an OpenEXR image": rb"\x76\x2f\x31\x01",
    "a Radiance image (HDR)": rb"#\?(?:RADIANCE|RGBE)\n",
    "a Netpbm image (PPM, PGM, PBM)": rb"P[1-7]\s+(?:#|\d|WIDTH)",
    "a raw file of a camera": rb"II\*\0....CR|FUJIFILMCCD-RAW|II(?:RO|RS|U\0)|....ftypcrx ",
    # Targa files begin without a signature: colour map, type, colour map, origin, size, depth, orientation.
    "a Targa image (TGA)": rb"[\s\S][\0\1](?:[\1\2\3]|[\x09-\x0b])[\s\S]{13}[\x08\x0f\x10\x18\x20][\0-\x3f]",
}


def unsupported_format(head: bytes) -> str:
    """Description of an image in a format that is not read, as the end of a sentence; "" for other files.

    Args:
        head: the first bytes of the file, at least 18.
    """
    found = next((name for name, begins in _FORMATS.items() if re.match(begins, head, re.DOTALL)), "")
    return found and f"is {found}, a format that is not supported: {_READS}."


def description(head: bytes) -> str:
    """Description of a file that is no image, from its first bytes, as the end of a sentence."""
    if problem := mistaken(head, len(head)):
        return f"{problem}."
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith(b"%pdf"):
        return "is a PDF: export the image as PNG or JPEG."
    if start.startswith((b"%!ps", b"\xc5\xd0\xd3\xc6")):
        return "is PostScript: export the image as PNG or JPEG."
    if b"<svg" in start:
        return "is an SVG drawing: export it as PNG."
    if head[4:8] == b"ftyp":
        return "is a video, or a damaged HEIC or AVIF: save the image as PNG or JPEG."
    if all(byte >= 32 or byte in b"\t\r\n\f" for byte in head):
        return f"is text, not an image: {_READS}."
    return f"is damaged or not an image: {_READS}."
