"""The orientation of image files, and the transformations that turn their pixels upright."""

from collections.abc import Callable

from PIL import Image

from sfumato.images.samples import Samples16

_EXIF_ORIENTATION = 0x0112
#: EXIF orientation -> transformation that turns an image upright; 1 is upright.
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
#: EXIF orientations that exchange width and height.
SIDEWAYS = (5, 6, 7, 8)
#: The same as `UPRIGHT` for an array, [h,w] or [h,w,c].
UPRIGHT_ARRAY: dict[int, Callable[[Samples16], Samples16]] = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a[::-1].swapaxes(0, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a[:, ::-1].swapaxes(0, 1),
}


def orientation_of(image: Image.Image) -> tuple[int, str]:
    """The orientation in EXIF, 1 to 8 if it is valid, and a note, "" if EXIF is readable."""
    try:
        return int(image.getexif().get(_EXIF_ORIENTATION, 1)), ""
    except Exception:  # EXIF is untrusted input: the image stays usable with a malformed block
        return 1, "the EXIF block is unreadable: orientation ignored"
