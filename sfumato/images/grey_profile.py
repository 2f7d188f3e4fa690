"""RGB profiles equivalent to the ICC profiles of grey images, which cannot be embedded in an edited RGB image."""

import struct

import numpy as np
from numpy.typing import NDArray

from sfumato.images.matrix_profile import D65, SRGB, matrix_profile

_ENTRIES = 4096
_HEADER, _ENTRY = 128, 12


def rgb_profile_of_grey(icc: bytes) -> bytes | None:
    """The RGB profile in which equal levels of red, green and blue have the colour of that grey level.

    Its primaries are those of sRGB.

    Args:
        icc: a profile for grey.

    Returns:
        None if the profile has no increasing curve to the luminance (`kTRC` with the connection space XYZ).
    """
    levels = np.linspace(0, 1, _ENTRIES)
    try:
        data = _tag(icc, b"kTRC")
        with np.errstate(all="ignore"):
            table = None if data is None or icc[20:24] != b"XYZ " else _curve(data, levels)
    except (struct.error, ValueError, IndexError):
        return None
    if table is None or not np.isfinite(table).all() or (np.diff(table) < 0).any() or table[0] == table[-1]:
        return None
    return matrix_profile(SRGB, D65, lambda x: np.interp(x, levels, table))


def _tag(icc: bytes, name: bytes) -> bytes | None:
    """The data of a tag of a profile."""
    (count,) = struct.unpack_from(">I", icc, _HEADER)
    for n in range(min(count, len(icc) // _ENTRY)):
        kind, start, length = struct.unpack_from(">4sII", icc, _HEADER + 4 + _ENTRY * n)
        if kind == name:
            return icc[start : start + length]
    return None


def _curve(data: bytes, x: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Linear light of levels x in [0, 1] by a tag of type `curv` or `para` (ICC.1:2022, 10.6 and 10.18)."""
    if data[:4] == b"curv":
        (count,) = struct.unpack_from(">I", data, 8)
        values = np.array(struct.unpack_from(f">{min(count, len(data))}H", data, 12), dtype=np.float64)
        if count < 2:
            return x ** (values[0] / 256) if count else x
        return np.interp(x, np.linspace(0, 1, count), values / 65535)
    if data[:4] != b"para":
        return None
    (kind,) = struct.unpack_from(">H", data, 8)
    length = (1, 3, 4, 5, 7)[kind]
    g, *rest = (value / 65536 for value in struct.unpack_from(f">{length}i", data, 12))
    a, b, c, d, e, f = 1.0, 0.0, 0.0, 0.0, 0.0, 0.0
    if kind in (1, 2):
        a, b, *offset = rest
        e = f = offset[0] if offset else 0.0
        d = -b / a if a else 0.0
    elif kind:
        a, b, c, d, *offset = rest
        e, f = offset if offset else (0.0, 0.0)
    return np.where(x >= d, np.maximum(a * x + b, 0) ** g + e, c * x + f)
