"""How picture files are put together, walked without decoding: what would take a decoder minutes, how many frames.

Pillow keeps the comments of a GIF by adding piece to piece, which takes the square of their length, looks at each of
any number of chunks of a PNG, and decodes its way to the number of frames.
"""

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

#: Of all comments before the first frame of a GIF, in bytes.
MOST_COMMENT = 1 << 20
#: Where the count of frames ends.
MOST_FRAMES = 100_000
_CHUNKS, _MOST_CHUNKS, _BYTES_A_CHUNK = 10_000, 200_000, 2048


def problem(file: BinaryIO) -> str:
    """What is wrong with a PNG or GIF, as the end of a sentence; "" for nothing and for other formats."""
    head = _at(file, 0, 8)
    if head == b"\x89PNG\r\n\x1a\n":
        size = file.seek(0, os.SEEK_END)
        most = min(_CHUNKS + size // _BYTES_A_CHUNK, _MOST_CHUNKS)
        return f"is cut into more than {most:,} chunks" if _has_more_chunks(file, most) else ""
    if head[:4] == b"GIF8":
        comment = 0
        for kind, size in _gif_blocks(file):
            comment += size if kind == "comment" else 0
            if comment > MOST_COMMENT:
                return f"has more than {MOST_COMMENT:,} bytes of comments"
            if kind == "frame":
                break
    return ""


def count_frames(file: BinaryIO, file_format: str) -> int | None:
    """The number of frames of a GIF or pictures of a TIFF, at most `MOST_FRAMES`; None for other formats.

    Raises:
        ValueError: the chain of pictures of a TIFF is broken.
    """
    before = file.tell()
    try:
        if file_format == "GIF":
            return _counted(kind for kind, _ in _gif_blocks(file) if kind == "frame")
        return _counted(_tiff_pictures(file)) if file_format == "TIFF" else None
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


def _gif_blocks(file: BinaryIO) -> Iterator[tuple[str, int]]:
    """("frame" or "comment", bytes of its data) of a GIF, up to where it ends or makes no sense."""
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
                yield "comment", size
        elif kind == b",":
            place = file.read(9)
            if len(place) < 9:
                return
            file.seek(_colours(place[8]) + 1, os.SEEK_CUR)
            yield "frame", _skip_blocks(file)


def _colours(flags: int) -> int:
    """Bytes of the table of colours that the flags of a screen or a frame announce."""
    return 3 << ((flags & 7) + 1) if flags & 128 else 0


def _skip_blocks(file: BinaryIO) -> int:
    """Go past a chain of blocks, each led by its length; returns the bytes in them."""
    total = 0
    while length := file.read(1):
        if length == b"\0":
            break
        file.seek(length[0], os.SEEK_CUR)
        total += length[0]
    return total


def _tiff_pictures(file: BinaryIO) -> Iterator[int]:
    """The place of each directory of a TIFF or BigTIFF; a chain that comes back to one of them ends there."""
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
        raise ValueError("the file ends before its next picture")
    return struct.unpack(layout, content)


def _at(file: BinaryIO, place: int, length: int) -> bytes:
    try:
        file.seek(place)
    except (OSError, OverflowError):  # a place that no file has
        return b""
    return file.read(length)
