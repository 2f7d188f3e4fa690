"""HEIC files, which Pillow reads with the package pillow-heif (the extra `heif`)."""

from importlib.util import find_spec

#: Bytes 4 to 7 of HEIC, AVIF and MP4 files.
CAN_BE_HEIF = (b"ftyp",)
#: Brands of HEIC and HEIF images.
_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_AVIF = (b"avif", b"avis")


def heif_problem(head: bytes) -> str:
    """Make Pillow able to read a HEIC.

    Args:
        head: the first bytes of a file.

    Returns:
        Why that is impossible, as the end of a sentence; "" if it is possible, or if the file is no HEIC.
    """
    size = int.from_bytes(head[:4], "big")
    brands = [head[place : place + 4] for place in range(8, min(size, len(head), 64), 4)]
    if any(brand in _AVIF for brand in brands) or not any(brand in _BRANDS for brand in brands):
        return ""
    if find_spec("pillow_heif") is None:
        return "is HEIC, which needs a further package: pip install 'sfumato[heif]', or save the image as PNG or JPEG."
    import pillow_heif

    pillow_heif.register_heif_opener(thumbnails=False)
    return ""
