"""Write animations: GIF, APNG or WebP."""

import io
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sfumato.errors import BadInput
from sfumato.files import printable, write_bytes

#: Extension -> Pillow's format and save options. GIF has 256 colours per frame; the others are lossless.
ANIMATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    ".gif": ("GIF", {"disposal": 2}),
    ".png": ("PNG", {}),
    ".webp": ("WEBP", {"lossless": True}),
}


def write_animation(
    path: str | os.PathLike[str], frames: Sequence[NDArray[np.uint8]], *, fps: float = 12.0, bounce: bool = False
) -> None:
    """Write an animation that repeats forever; the file is written atomically.

    Args:
        path: output file; its extension determines the format.
        frames: sRGB images of one size, uint8 [h,w,3].
        fps: frames per second, above 0 and at most 50, the limit of GIF.
        bounce: play the frames backwards after the last one, instead of jumping to the first.

    Raises:
        BadInput: the extension is unknown, there are no frames or they differ in size, fps is out of range, or the path
            cannot be written.
    """
    file_format, options = ANIMATIONS[check_animation(path, fps)]
    if not frames or len({frame.shape for frame in frames}) != 1:
        raise BadInput("An animation needs at least one frame, and frames all of one size.")
    order = [*frames, *frames[-2:0:-1]] if bounce else list(frames)
    first, *rest = (Image.fromarray(np.ascontiguousarray(frame)) for frame in order)
    encoded = io.BytesIO()
    first.save(
        encoded, format=file_format, save_all=True, append_images=rest, duration=round(1000 / fps), loop=0, **options
    )
    write_bytes(path, encoded.getbuffer())


def check_animation(path: str | os.PathLike[str], fps: float) -> str:
    """Check the extension and the frame rate of an animation.

    Returns:
        The extension in lower case.

    Raises:
        BadInput: the extension is unknown or fps is out of range; the message names the allowed values.
    """
    ending = os.path.splitext(os.fspath(path))[1].lower()
    if ending not in ANIMATIONS:
        raise BadInput(f"{printable(path)}: an animation's extension must be one of {', '.join(ANIMATIONS)}.")
    if not 0 < fps <= 50:
        raise BadInput(f"The speed must be above 0 and at most 50 frames per second, not {fps}.")
    return ending
