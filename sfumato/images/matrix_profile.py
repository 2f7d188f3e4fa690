"""ICC profiles (version 2, matrix and curves) for colour spaces that files declare by numbers instead of a profile."""

import struct
from collections.abc import Callable
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Point: TypeAlias = tuple[float, float]
"""Chromaticity (x, y) of CIE 1931."""
Primaries: TypeAlias = tuple[Point, Point, Point]
"""Red, green and blue."""

D65: Point = (0.3127, 0.3290)
SRGB: Primaries = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
ADOBE_RGB: Primaries = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
#: Primaries by their code in ITU-T H.273 (cICP chunks, AVIF, HEIC): BT.709, BT.470 B/G, BT.601, BT.2020, P3.
CODED: dict[int, Primaries] = {
    1: SRGB,
    5: ((0.64, 0.33), (0.29, 0.60), (0.15, 0.06)),
    6: ((0.63, 0.34), (0.31, 0.595), (0.155, 0.07)),
    7: ((0.63, 0.34), (0.31, 0.595), (0.155, 0.07)),
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    12: ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06)),
}

_D50 = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_ENTRIES = 4096


def srgb_curve(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Linear light of levels in [0,1] by the curve of sRGB (IEC 61966-2-1)."""
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


@lru_cache(maxsize=16)  # the keys come from files
def matrix_profile(
    primaries: Primaries, white: Point, curve: float | Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> bytes:
    """Create an RGB profile.

    Args:
        primaries: chromaticities of red, green and blue.
        white: chromaticity of white; colours are adapted to D50 by Bradford's transform.
        curve: linear light as a function of levels in [0,1]; a number g for x^g.
    """
    columns = _adapted(white) @ _to_xyz(primaries, white)
    levels = np.linspace(0, 1, _ENTRIES)
    light = levels**curve if isinstance(curve, float) else curve(levels)
    table = np.rint(np.clip(light, 0, 1) * 65535).astype(">u2").tobytes()
    shape = b"curv\0\0\0\0" + struct.pack(">I", _ENTRIES) + table
    name = b"declared by the image file\0"
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(name)) + name + bytes(78),
        b"cprt": b"text\0\0\0\0no copyright\0",
        b"wtpt": _xyz(_D50),
        **{kind: _xyz(columns[:, n]) for n, kind in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))},
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), shape),
    }
    return _assembled(tags)


def _to_xyz(primaries: Primaries, white: Point) -> NDArray[np.float64]:
    """[3,3]: XYZ of the three primaries as columns, scaled so that their sum is the white point with luminance 1."""
    directions = np.array([[x / y, 1.0, (1 - x - y) / y] for x, y in primaries]).T
    x, y = white
    return directions * np.linalg.solve(directions, np.array([x / y, 1.0, (1 - x - y) / y]))


def _adapted(white: Point) -> NDArray[np.float64]:
    """[3,3]: Bradford's transform of XYZ from a white point to D50."""
    x, y = white
    before, after = _BRADFORD @ np.array([x / y, 1.0, (1 - x - y) / y]), _BRADFORD @ _D50
    return np.linalg.inv(_BRADFORD) @ np.diag(after / before) @ _BRADFORD


def _xyz(values: NDArray[np.float64]) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(float(each) * 65536) for each in values))


def _assembled(tags: dict[bytes, bytes]) -> bytes:
    """Header, table of tags and data; equal data is stored once."""
    start, places, body = 128 + 4 + 12 * len(tags), dict[bytes, int](), b""
    for data in tags.values():
        if data not in places:
            places[data] = start + len(body)
            body += data + bytes(-len(data) % 4)
    table = b"".join(kind + struct.pack(">II", places[data], len(data)) for kind, data in tags.items())
    header = struct.pack(">I4sI4s4s4s", start + len(body), b"\0\0\0\0", 0x02100000, b"mntr", b"RGB ", b"XYZ ")
    header += struct.pack(">6H4s", 2000, 1, 1, 0, 0, 0, b"acsp") + bytes(28)
    header += struct.pack(">3i", *(round(float(each) * 65536) for each in _D50)) + bytes(48)
    return header + struct.pack(">I", len(tags)) + table + body
