"""TIFF files with EXIF directories. Pillow writes these only without compression, so they are appended here."""

import io
import struct
from collections.abc import Iterator, Mapping
from typing import Any

from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from sfumato.images.declared import EXIF_IFD
from sfumato.images.metadata import GPS_IFD, described

#: Tags whose value is the offset of another directory.
_DIRECTORIES = (EXIF_IFD, GPS_IFD)
_PLACEHOLDER = 8


def tiff_bytes(image: Image.Image, exif: bytes, more: Mapping[int, Any], **options: Any) -> bytes:
    """A TIFF, compressed by LZW.

    Args:
        image: the pixels.
        exif: an EXIF block, b"" for none.
        more: further tags.
        options: for Pillow: dpi, icc_profile.
    """
    block = Image.Exif()
    block.load(exif)
    tags = described(block) | dict(more)
    nested = {tag: dict(block.get_ifd(tag)) for tag in _DIRECTORIES if tag in block}
    written = io.BytesIO()
    info = tags | dict.fromkeys(nested, _PLACEHOLDER)
    image.save(written, format="TIFF", compression="tiff_lzw", tiffinfo=info, **options)
    data = bytearray(written.getvalue())
    for entry, tag in list(entries(data)):
        if tag in nested:
            data += bytes(len(data) % 2)
            directory = ImageFileDirectory_v2(prefix=b"II", group=tag)
            for name, value in nested[tag].items():
                directory[name] = value
            struct.pack_into("<HHII", data, entry, tag, 4, 1, len(data))
            data += directory.tobytes(len(data))
    return bytes(data)


def entries(data: bytes | bytearray) -> Iterator[tuple[int, int]]:
    """(offset, tag) of the entries of the first directory of a classic TIFF in either byte order."""
    order = "<" if data[:2] == b"II" else ">"
    (place,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, place)
    for entry in range(place + 2, place + 2 + 12 * count, 12):
        yield entry, struct.unpack_from(order + "H", data, entry)[0]
