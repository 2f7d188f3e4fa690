"""Check of the header of a safetensors file before the library parses it, which takes minutes for malicious headers."""

import os

from sfumato.downloads import HEAD, cut_short, mistaken_weights
from sfumato.errors import BadInput
from sfumato.files import Named, printable
from sfumato.regular_files import open_regular, reason

MAX_TENSORS = 20_000
MAX_HEADER_BYTES = 16 << 20
_LENGTH_BYTES = 8


def check_header(path: Named, give: str, tensors: int = MAX_TENSORS) -> None:
    """Refuse a header that is too long or lists more tensors than any genuine file.

    Args:
        path: the file.
        give: what to give instead, as the end of the error message.
        tensors: largest number of tensors. Opening braces are counted, since the entry of every tensor has one.

    Raises:
        BadInput: not a regular file, such a header, a file that is cut short, or something else in place of the file
            (`sfumato.downloads`). The library itself reports all other defects of a header.
    """
    name = printable(path)
    with open_regular(path, give) as file:
        try:
            size = os.fstat(file.fileno()).st_size
            head = file.read(HEAD)
            start = head[:_LENGTH_BYTES]
            length = int.from_bytes(start, "little") if len(start) == _LENGTH_BYTES else 0
            file.seek(_LENGTH_BYTES)
            header = file.read(length) if length <= MAX_HEADER_BYTES else b""
        except OSError as error:
            raise BadInput(f"{name} cannot be read ({reason(error)}): {give}.") from error
    if problem := mistaken_weights(head, size):
        raise BadInput(f"{name} {problem}.")
    if length > MAX_HEADER_BYTES:
        raise BadInput(
            f"{name} is damaged or not a safetensors file (it claims a header of {length:,} bytes; the "
            f"limit is {MAX_HEADER_BYTES:,}): {give}."
        )
    if header.count(b"{") > tensors:
        raise BadInput(f"{name} has a header of more than {tensors:,} tensors: {give}.")
    if problem := cut_short(header, length, size):
        raise BadInput(f"{name} {problem}.")
