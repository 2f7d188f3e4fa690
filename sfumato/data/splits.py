"""Fixed splits, by a hash of the content.

The split "test" contains base emoji with all their skin tones, genders, hair styles, colours and drawing styles. The
split "cells" contains single (base, style) pairs of the other emoji. The training data has their content in other
styles and their style with other content, so "cells" tests style transfer.
"""

import hashlib
from typing import Literal

Split = Literal["train", "test", "cells"]

SPLITS: tuple[Split, ...] = ("train", "test", "cells")

#: One base emoji in this many is in "test", and one (base, style) pair in this many of the others is in "cells". In
#: folders of the user, one file in this many is in "test".
HOLDOUT = 20


def in_lowest(text: str, one_in: int = HOLDOUT) -> bool:
    """Whether sha256(text), as a big-endian integer, is in the lowest 1/`one_in` of its range."""
    digest = int.from_bytes(hashlib.sha256(text.encode("utf-8")).digest(), "big")
    return digest * one_in < 1 << 256


def split_of(base: str, style: str) -> Split:
    """Split of a (base emoji, style) pair: "test", "cells" or "train"."""
    if in_lowest(base):
        return "test"
    return "cells" if in_lowest(f"{base}/{style}") else "train"


def split_of_file(file_name: str) -> Split:
    """Split of an image in a folder of the user, by its file name: "test" or "train"."""
    return "test" if in_lowest(file_name) else "train"
