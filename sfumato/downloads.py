"""Detect, from the first bytes of a file, common results of a failed download (Git LFS pointers, web pages, ...)."""

import re
from collections.abc import Iterator

_POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v\d+\s[^\0]*?size (\d{1,20})|version https://git-lfs"
)
_DATA_END = re.compile(rb'"data_offsets"\s*:\s*\[\s*\d{1,20}\s*,\s*(\d{1,20})\s*\]')
_LENGTH_BYTES = 8
HEAD = 1024
"""Number of bytes that are needed to recognise a file."""


def mistaken(head: bytes, size: int) -> str:
    """Description of a file that is the result of a failed download, as the rest of a sentence after its name.

    Args:
        head: the first `HEAD` bytes.
        size: size of the file in bytes.

    Returns:
        A clause that names the content and, after a colon, the remedy; "" for any other content.
    """
    return next(_text_in_place_of_a_file(head, size), "")


def mistaken_weights(head: bytes, size: int) -> str:
    """As `mistaken`, for safetensors files; also detects empty files, archives, texts and other formats of weights."""
    return next(_in_place_of_weights(head, size), "")


def cut_short(header: bytes, length: int, size: int) -> str:
    """As `mistaken`, for a truncated safetensors file.

    Args:
        header: the header, which may be truncated.
        length: length of the complete header in bytes.
        size: size of the file in bytes.
    """
    end = max((int(found[1]) for found in _DATA_END.finditer(header)), default=0)
    wanted = _LENGTH_BYTES + length + end
    if size >= wanted:
        return ""
    least = "" if len(header) == length else "at least "
    return f"is cut short, {size:,} of {least}{wanted:,} bytes: download or copy it again"


def _text_in_place_of_a_file(head: bytes, size: int) -> Iterator[str]:
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if pointer := _POINTER.match(start):
        meant = f" of {int(pointer[1]):,} bytes" if pointer[1] else ""
        yield (
            f"is a Git LFS pointer, {size:,} bytes that stand for a file{meant}: run `git lfs pull` in the clone, or "
            "download the file itself"
        )
    if start[:64].lower().startswith((b"<!doctype html", b"<html")):
        yield "is a web page (HTML), such as one to log in or to accept a licence: download the file itself"
    if start.startswith(b"<?xml") and b"<Error>" in head:
        yield "is the error message of a server (XML): download the file itself"


def _in_place_of_weights(head: bytes, size: int) -> Iterator[str]:
    if size == 0:
        yield "is empty (0 bytes): download or copy it again"
    yield from _text_in_place_of_a_file(head, size)
    if head[_LENGTH_BYTES:].startswith(b"{"):
        return  # a safetensors header; the length before it may begin with any bytes, such as those of a pickle
    if head.startswith(b"PK\x03\x04") or re.match(rb"\x80[\x02-\x05]", head):
        yield "is a pickle under another name, which can run code when opened: convert it to safetensors"
    if head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf", b"\x28\xb5\x2f\xfd")):
        yield "is a compressed archive: unpack it and give the file in it"
    if head.startswith((b"GGUF", b"\x89HDF", b"\x93NUMPY")):
        kind = {71: "GGUF", 137: "HDF5", 147: "NumPy"}[head[0]]
        yield f"is a {kind} file: convert it to safetensors"
    if head and not head.strip(b"\0"):
        yield "begins with zeros, as a download that was stopped: download it again"
    elif head and _is_text(head):
        shown = " ".join(head[:60].decode("utf-8", "replace").split())
        yield f'is a text that begins with "{shown}", such as an error message of a server: download the file itself'


def _is_text(head: bytes) -> bool:
    """Whether there are no control characters, and at most a tenth of the characters is not UTF-8."""
    text = head.decode("utf-8", "replace")
    return all(byte >= 32 or byte in b"\t\r\n\f" for byte in head) and text.count("\ufffd") * 10 <= len(text)
