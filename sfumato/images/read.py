"""Reading of images; a file that cannot be used raises BadInput with one sentence."""

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from threading import RLock
from typing import BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sfumato.downloads import mistaken
from sfumato.errors import BadInput
from sfumato.files import printable
from sfumato.images.colour import to_eight_bits, to_srgb
from sfumato.images.limits import MAX_PIXELS
from sfumato.images.picture import Picture, composite
from sfumato.images.samples import depth_note, from_array, transparent_colour
from sfumato.images.structure import MOST_FRAMES, count_frames, problem
from sfumato.regular_files import open_regular, reason

Source: TypeAlias = str | bytes | os.PathLike[str] | Image.Image | NDArray[np.uint8]

#: File formats that are read. Pillow must not try its other formats, since some of them run external programs.
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF")
_READS = "sfumato reads PNG, JPEG, WebP, TIFF, BMP and GIF"
_EXIF_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
DEEP_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N", "F")
_pillow_limit = RLock()


def read_image(
    source: Source,
    max_pixels: int = MAX_PIXELS,
    *,
    background: tuple[int, int, int] = (255, 255, 255),
) -> Picture:
    """Read an image and convert it to the model's input: upright, opaque, 8-bit sRGB.

    Args:
        source: path, bytes of a file, PIL image, or uint8 array: grey [h, w], sRGB [h, w, 3] or with straight alpha
            [h, w, 4].
        max_pixels: largest width x height that is read, at least 1.
        background: sRGB colour under transparent pixels, 0..255.

    Raises:
        BadInput: the source cannot be read completely; the message names the file.
    """
    if any(not 0 <= level <= 255 for level in background):
        raise BadInput(f"background must be three levels in 0..255, not {background}.")
    image, notes, name, _ = open_upright(source, max_pixels)
    mode = image.mode
    icc = image.info.get("icc_profile") or None
    opaque, alpha = split_alpha(image, name)
    del image  # limits the number of copies of a large image in memory
    try:
        colours = to_srgb(opaque, icc if isinstance(icc, bytes) else None)
    except (OSError, ValueError) as error:
        raise BadInput(f"{name}: pixels of mode {mode} cannot be converted to sRGB: save it as RGB.") from error
    rgb = colours.srgb if alpha is None else composite(colours.srgb, alpha, background)
    note = "; ".join(part for part in (*notes, colours.note) if part)
    return Picture(rgb, alpha, colours.native, colours.icc, mode, name, note, background)


def display_name(source: Source) -> str:
    """A printable name for messages; undecodable bytes and control characters are escaped.

    Raises:
        BadInput: the source has a type that is not supported.
    """
    if isinstance(source, (bytes, np.ndarray)):
        return "the given image"
    if not isinstance(source, (str, os.PathLike, Image.Image)):
        raise BadInput(
            "An image must be a path, the bytes of a file, a Pillow image or a uint8 array, "
            f"not {type(source).__name__}."
        )
    raw = getattr(source, "filename", "") if isinstance(source, Image.Image) else os.fspath(source)
    if not raw:
        return "the given image"
    return printable(raw)


@contextmanager
def opened(source: Source, max_pixels: int, formats: Sequence[str] = FORMATS) -> Iterator[Image.Image]:
    """Open an image and check its size; the pixels are not decoded yet."""
    if isinstance(max_pixels, bool) or not isinstance(max_pixels, int) or max_pixels < 1:
        raise BadInput(f"max_pixels must be an integer of at least 1, not {max_pixels!r}; it cannot be disabled.")
    name = display_name(source)
    source = from_array(source) if isinstance(source, np.ndarray) else source
    if isinstance(source, Image.Image):
        _check_size(source, max_pixels, name)
        yield source
        return
    with _file(source) as file, _limit(max_pixels):
        try:
            head = file.read(1024)
            file.seek(0)
        except OSError as error:  # such as /proc/PID/mem
            raise BadInput(f"{name} cannot be read ({reason(error)}): give an image file.") from error
        if not head:
            raise BadInput(f"{name} is empty (0 bytes): give an image file.")
        if wrong := problem(file):
            raise BadInput(f"{name} {wrong}, which takes too long to decode: save the image again.")
        file.seek(0)
        try:
            image = Image.open(file, formats=formats)
        except Image.UnidentifiedImageError as error:
            raise BadInput(f"{name} {_describe(head)}") from error
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise BadInput(f"{name} declares more pixels than the limit of {max_pixels:,}: make it smaller.") from error
        except Exception as error:  # decoders raise many types of exceptions for malformed files
            raise BadInput(f"{name} is damaged ({reason(error)}): use another copy.") from error
        with image:
            _check_size(image, max_pixels, name)
            yield image


def load_pixels(image: Image.Image, name: str) -> None:
    """Decode the pixels. Raises BadInput if the file is truncated or damaged, which only decoding reveals."""
    try:
        image.load()
    except Exception as error:  # decoders raise OSError, ValueError, SyntaxError, EOFError, struct.error, ...
        raise BadInput(f"{name} is truncated or damaged ({reason(error)}): use another copy.") from error


def open_upright(source: Source, max_pixels: int) -> tuple[Image.Image, list[str], str, str]:
    """The first frame, decoded and upright; notes on what was decided; the name for messages; the file format or ""."""
    name = display_name(source)
    with opened(source, max_pixels) as image:
        depth, (key, key_note), frames = depth_note(image), transparent_colour(image), _frames(image)
        file_format = image.format or ""
        load_pixels(image, name)
        orientation, exif_note = _orientation(image)
        upright = image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image.copy()
        info = {name: value for name, value in image.info.items() if name != "transparency"}
        upright.info = info if key is None else info | {"transparency": key}
        notes = [frames, depth, key_note, exif_note]
    return upright, notes, name, file_format


def _orientation(image: Image.Image) -> tuple[int, str]:
    try:
        return int(image.getexif().get(_EXIF_ORIENTATION, 1)), ""
    except Exception:  # EXIF is untrusted input: the image stays usable with a malformed block
        return 1, "the EXIF block is unreadable: orientation ignored"


def _frames(image: Image.Image) -> str:
    try:
        file = getattr(image, "fp", None)
        counted = None if file is None else count_frames(file, image.format or "")
        count = int(getattr(image, "n_frames", 1)) if counted is None else counted
    except Exception:  # later frames are not used, so damage in them is accepted
        return "several frames, the later ones damaged: first one used"
    if count <= 1:
        return ""
    more = f"{count} or more" if count == MOST_FRAMES else str(count)
    if image.format in ("MPO", "TIFF"):
        return f"{more} pictures in one file: the first is used"
    return f"animated: first of {more} frames used"


def split_alpha(image: Image.Image, name: str) -> tuple[Image.Image, NDArray[np.uint8] | None]:
    """Return the 8-bit image without alpha, and the alpha, uint8 [h, w] or None."""
    key = image.info.get("transparency")
    if image.mode in DEEP_MODES:
        keyed = isinstance(key, int) and not isinstance(key, bool)
        alpha = np.where(np.asarray(image) == key, 0, 255).astype(np.uint8) if keyed else None
        return to_eight_bits(image, name), alpha
    if key is not None or image.mode in ("RGBA", "LA", "PA", "RGBa"):
        with_alpha = image if key is None and image.mode == "RGBA" else _convert(image, "RGBA", name)
        return with_alpha.convert("RGB"), np.asarray(with_alpha.getchannel("A"), dtype=np.uint8)
    if image.mode in ("L", "RGB", "CMYK", "LAB", "YCbCr"):
        return image, None
    return _convert(image, "L" if image.mode == "1" else "RGB", name), None


def _convert(image: Image.Image, mode: str, name: str) -> Image.Image:
    try:
        return image.convert(mode)
    except (ValueError, OSError, TypeError, OverflowError) as error:
        raise BadInput(f"{name}: {image.mode} pixels cannot be converted to {mode}: save it as {mode}.") from error


def _check_size(image: Image.Image, max_pixels: int, name: str) -> None:
    pixels = image.width * image.height
    if pixels == 0:
        raise BadInput(f"{name} is {image.width} x {image.height} pixels: nothing to edit.")
    if pixels > max_pixels:
        raise BadInput(
            f"{name} has {image.width} x {image.height} = {pixels:,} pixels, more than the limit of "
            f"{max_pixels:,}: make it smaller or raise max_pixels (--max-pixels)."
        )


def _file(source: str | bytes | os.PathLike[str]) -> AbstractContextManager[BinaryIO]:
    return nullcontext(io.BytesIO(source)) if isinstance(source, bytes) else open_regular(source, "give an image file")


@contextmanager
def _limit(max_pixels: int) -> Iterator[None]:
    """Raise Pillow's global pixel limit to `max_pixels` within a `with` block, if it is lower."""
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels <= Image.MAX_IMAGE_PIXELS:
        yield
        return
    with _pillow_limit:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, max_pixels
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _describe(head: bytes) -> str:
    """What the file is, from its first bytes, as the end of a sentence."""
    if problem := mistaken(head, len(head)):
        return f"{problem}."
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith(b"%pdf"):
        return "is a PDF: export the picture as PNG or JPEG."
    if start.startswith((b"%!ps", b"\xc5\xd0\xd3\xc6")):
        return "is PostScript: export the picture as PNG or JPEG."
    if b"<svg" in start:
        return "is an SVG drawing: export it as PNG."
    if head[4:8] == b"ftyp":
        return "is HEIC, AVIF or video: save the picture as PNG or JPEG."
    if all(byte >= 32 or byte in b"\t\r\n\f" for byte in head):
        return f"is text, not an image: {_READS}."
    return f"is damaged or not an image: {_READS}."
