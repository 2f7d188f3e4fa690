"""Check the header of a safetensors file before the library parses it, because malicious headers would take minutes."""

import os

from sfumato.downloads import HEAD, cut_short, mistaken_weights
from sfumato.errors import BadInput
from sfumato.files import Named, printable
from sfumato.regular_files import open_regular, reason

MAX_TENSORS = 20_000
MAX_HEADER_BYTES = 16 << 20
_LENGTH_BYTES = 8


def check_header(path: Named, give: str, tensors: int = MAX_TENSORS) -> None:
    """Check the length of a header and its number of tensors.

    Args:
        path: the file.
        give: advice at the end of the error message.
        tensors: largest number of tensors. Opening braces are counted, because every tensor's entry contains one.

    Raises:
        BadInput: the path is not a regular file, the header is too long or has too many tensors, or the file is
            truncated or the result of a failed download (`sfumato.downloads`). Other defects are reported by the
            library.
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
