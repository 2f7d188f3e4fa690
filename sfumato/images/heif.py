"""HEIC files, which Pillow reads with the package pillow-heif (the extra `heif`)."""

from importlib.util import find_spec

#: Brands of HEIC and HEIF images.
_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_AVIF = (b"avif", b"avis")


def is_heif(head: bytes) -> bool:
    """Whether a file with these first bytes is a HEIC or HEIF; AVIF, the same container, is not."""
    size = int.from_bytes(head[:4], "big")
    brands = [head[place : place + 4] for place in range(8, min(size, len(head), 64), 4)]
    avif = any(brand in _AVIF for brand in brands)
    return head[4:8] == b"ftyp" and not avif and any(brand in _BRANDS for brand in brands)


def enable_heif() -> str:
    """Register the HEIC reader of pillow-heif with Pillow.

    Returns:
        "" on success; otherwise the reason for the failure, as the end of a sentence.
    """
    if find_spec("pillow_heif") is None:
        return "is HEIC, which needs a further package: pip install 'sfumato[heif]', or save the image as PNG or JPEG."
    import pillow_heif

    pillow_heif.register_heif_opener(thumbnails=False)
    return ""
