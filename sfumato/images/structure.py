"""Checks of the structure of PNG and GIF files that would take minutes to decode, and frame counts of GIF and TIFF.

The files are parsed without decoding. Pillow concatenates the comments of a GIF piece by piece, which takes time
quadratic in their length, reads any number of PNG chunks, and decodes all frames to count them.
"""

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

#: Largest total size of the comments before the first frame of a GIF, in bytes.
MOST_COMMENT = 1 << 20
#: Frames are counted up to this number.
MOST_FRAMES = 100_000
#: A PNG may have _CHUNKS chunks plus one for every _BYTES_A_CHUNK bytes of the file, at most _MOST_CHUNKS.
_CHUNKS, _MOST_CHUNKS, _BYTES_A_CHUNK = 10_000, 200_000, 2048


def problem(file: BinaryIO) -> str:
    """Reason why a PNG or GIF would be too slow to decode, as the end of a sentence; "" if there is none."""
    head = _at(file, 0, 8)
    if head == b"\x89PNG\r\n\x1a\n":
        size = file.seek(0, os.SEEK_END)
        most = min(_CHUNKS + size // _BYTES_A_CHUNK, _MOST_CHUNKS)
        return f"consists of more than {most:,} chunks" if _has_more_chunks(file, most) else ""
    if head[:4] == b"GIF8":
        comment = 0
        for extent, size in _gif_blocks(file):
            comment += 0 if extent else size
            if comment > MOST_COMMENT:
                return f"has more than {MOST_COMMENT:,} bytes of comments"
            if extent:
                break
    return ""


def declared_size(file: BinaryIO) -> tuple[int, int] | None:
    """Width and height of the first frame of a PNG or GIF, without decoding; None for other formats.

    Pillow allocates pixels of this size already when it opens some animated files.
    """
    head = _at(file, 0, 24)
    if head[:8] == b"\x89PNG\r\n\x1a\n" and len(head) == 24:
        width, height = struct.unpack(">II", head[16:])
        return width, height
    if head[:4] == b"GIF8" and len(head) >= 10:
        screen = struct.unpack("<HH", head[6:10])
        frame = next((extent for extent, _ in _gif_blocks(file) if extent), (0, 0))
        return max(screen[0], frame[0]), max(screen[1], frame[1])
    return None


def count_frames(file: BinaryIO, file_format: str) -> int | None:
    """The number of frames of a GIF or images of a TIFF, at most `MOST_FRAMES`; None for other formats.

    Raises:
        ValueError: the chain of directories of a TIFF is broken.
    """
    before = file.tell()
    try:
        if file_format == "GIF":
            return _counted(extent for extent, _ in _gif_blocks(file) if extent)
        return _counted(_tiff_directories(file)) if file_format == "TIFF" else None
    finally:
        file.seek(before)


def _counted(found: Iterator[object]) -> int:
    return sum(1 for _ in zip(found, range(MOST_FRAMES), strict=False))


def _has_more_chunks(file: BinaryIO, most: int) -> bool:
    place = 8
    for _ in range(most):
        head = _at(file, place, 8)
        if len(head) < 8 or not head[4:].isalpha() or head[4:] == b"IEND":
            return False
        place += 12 + int.from_bytes(head[:4], "big")
    return True


def _gif_blocks(file: BinaryIO) -> Iterator[tuple[tuple[int, int] | None, int]]:
    """Yield the frames and comments of a GIF, until it ends or is invalid.

    For each: right and bottom border of a frame in pixels, or None for a comment; size of its data in bytes.
    """
    head = _at(file, 0, 13)
    if len(head) < 13:
        return
    file.seek(_colours(head[10]), os.SEEK_CUR)
    while kind := file.read(1):
        if kind == b";":
            return
        if kind == b"!":
            label = file.read(1)
            size = _skip_blocks(file)
            if label == b"\xfe":
                yield None, size
        elif kind == b",":
            place = file.read(9)
            if len(place) < 9:
                return
            left, top, width, height = struct.unpack("<HHHH", place[:8])
            file.seek(_colours(place[8]) + 1, os.SEEK_CUR)
            yield (left + width, top + height), _skip_blocks(file)


def _colours(flags: int) -> int:
    """Size in bytes of the colour table that the flags of a screen or frame declare."""
    return 3 << ((flags & 7) + 1) if flags & 128 else 0


def _skip_blocks(file: BinaryIO) -> int:
    """Skip a chain of length-prefixed sub-blocks; return the number of bytes in them."""
    total = 0
    while length := file.read(1):
        if length == b"\0":
            break
        file.seek(length[0], os.SEEK_CUR)
        total += length[0]
    return total


def _tiff_directories(file: BinaryIO) -> Iterator[int]:
    """Yield the offset of each image directory of a TIFF or BigTIFF, until the chain ends or repeats an offset."""
    head = _at(file, 0, 4)
    order, big = "<" if head[:2] == b"II" else ">", head[2:4] in (b"+\0", b"\0+")
    count, entry, place = ("Q", 20, "Q") if big else ("H", 12, "I")
    (offset,) = _unpacked(file, 8 if big else 4, order + place)
    seen: set[int] = set()
    while offset and offset not in seen:
        seen.add(offset)
        yield offset
        (entries,) = _unpacked(file, offset, order + count)
        (offset,) = _unpacked(file, offset + struct.calcsize(count) + entries * entry, order + place)


def _unpacked(file: BinaryIO, place: int, layout: str) -> tuple[int, ...]:
    content = _at(file, place, struct.calcsize(layout))
    if len(content) < struct.calcsize(layout):
        raise ValueError("the file ends before its next image")
    return struct.unpack(layout, content)


def _at(file: BinaryIO, place: int, length: int) -> bytes:
    try:
        file.seek(place)
    except (OSError, OverflowError):  # an offset that is negative or too large
        return b""
    return file.read(length)
