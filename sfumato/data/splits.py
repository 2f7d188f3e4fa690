"""Fixed splits: by hash of the content, never by row.

All skin tones, genders, hair styles, colours and drawing styles of one base emoji fall on the same side
of the test split. Of the rest, single (base, style) cells are held out: there the content is known from
other styles and the style from other content, which is what a test of style transfer needs.
"""

import hashlib
from typing import Literal

Split = Literal["train", "test", "cells"]

SPLITS: tuple[Split, ...] = ("train", "test", "cells")

#: One image in this many is held out, by content and, of the emoji, again by cell.
HOLDOUT = 20


def in_lowest(text: str, one_in: int = HOLDOUT) -> bool:
    """Whether sha256(text), read as a big-endian integer, lies in the lowest 1/`one_in` of its range."""
    digest = int.from_bytes(hashlib.sha256(text.encode("utf-8")).digest(), "big")
    return digest * one_in < 1 << 256


def split_of(base: str, style: str) -> Split:
    """The split of a (base emoji, style) cell: "test", "cells" or "train"."""
    if in_lowest(base):
        return "test"
    return "cells" if in_lowest(f"{base}/{style}") else "train"


def split_of_file(file_name: str) -> Split:
    """The split of a picture in a user's own folder: "test" or "train"; nothing but its name is known, so no cells."""
    return "test" if in_lowest(file_name) else "train"
