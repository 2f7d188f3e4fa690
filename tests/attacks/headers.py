"""Writers of safetensors files with arbitrary headers."""

import json
from pathlib import Path


def with_header(path: Path, header: bytes, length: int | None = None) -> Path:
    """Write a file with this header only; `length` is the declared header length, by default the true one."""
    path.write_bytes((len(header) if length is None else length).to_bytes(8, "little") + header)
    return path


def many(count: int, metadata: dict[str, str] | None = None) -> bytes:
    """A header with `count` empty tensors."""
    entry = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    named = {f"t{n}": entry for n in range(count)}
    return json.dumps(({"__metadata__": metadata} if metadata else {}) | named).encode()
