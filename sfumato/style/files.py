"""The files of style encoders, checked without torch."""

import os

from sfumato.errors import BadInput
from sfumato.formats import STYLE_ENCODER

FILE = "style.safetensors"
"""Name of the file in an exported folder."""


def style_file(path: str | os.PathLike[str]) -> str:
    """The file of a style encoder: `path` itself, or `FILE` in it, for the folder that `sfumato train style` exported.

    Raises:
        BadInput: a folder does not contain that file.
    """
    inside = os.path.join(path, FILE)
    if not os.path.isdir(path):
        return os.fspath(path)
    if not os.path.isfile(inside):
        raise BadInput(f"{os.fspath(path)} contains no {FILE}: give the export of `sfumato train style`.")
    return inside


def check_style_encoder(path: str | os.PathLike[str]) -> None:
    """Check the header of a style encoder's file, as `Format.check`. Raises BadInput."""
    STYLE_ENCODER.check(style_file(path))
