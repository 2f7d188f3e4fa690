"""Frames as one moving picture: GIF, APNG or WebP."""

import io
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sfumato.errors import BadInput
from sfumato.files import printable, write_bytes

#: Extension -> Pillow's format and how it is saved. GIF has 256 colours a frame; the others are lossless.
ANIMATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    ".gif": ("GIF", {"disposal": 2}),
    ".png": ("PNG", {}),
    ".webp": ("WEBP", {"lossless": True}),
}


def write_animation(
    path: str | os.PathLike[str], frames: Sequence[NDArray[np.uint8]], *, fps: float = 12.0, bounce: bool = False
) -> None:
    """Write frames that repeat for ever; the file is there whole or not at all.

    Args:
        path: the ending chooses the format.
        frames: sRGB pictures of one size, uint8 [h,w,3].
        fps: frames per second, above 0 and at most 50, which is as fast as a GIF goes.
        bounce: run back to the first frame instead of jumping.

    Raises:
        BadInput: another ending, no frames, frames of several sizes, a speed out of range, a path that cannot be
            written.
    """
    file_format, options = ANIMATIONS[check_animation(path, fps)]
    if not frames or len({frame.shape for frame in frames}) != 1:
        raise BadInput("An animation needs frames, all of one size.")
    order = [*frames, *frames[-2:0:-1]] if bounce else list(frames)
    first, *rest = (Image.fromarray(np.ascontiguousarray(frame)) for frame in order)
    encoded = io.BytesIO()
    first.save(
        encoded, format=file_format, save_all=True, append_images=rest, duration=round(1000 / fps), loop=0, **options
    )
    write_bytes(path, encoded.getbuffer())


def check_animation(path: str | os.PathLike[str], fps: float) -> str:
    """The ending of a file name that `write_animation` can write; refuses others, and speeds out of range.

    Raises:
        BadInput: names what there is.
    """
    ending = os.path.splitext(os.fspath(path))[1].lower()
    if ending not in ANIMATIONS:
        raise BadInput(f"{printable(path)}: an animation's extension must be one of {', '.join(ANIMATIONS)}.")
    if not 0 < fps <= 50:
        raise BadInput(f"The speed must be above 0 and at most 50 frames per second, not {fps}.")
    return ending
