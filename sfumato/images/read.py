"""Read images; files that cannot be used raise BadInput."""

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from threading import Lock
from typing import BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sfumato.errors import BadInput
from sfumato.files import printable
from sfumato.images.colour import to_eight_bits, to_srgb
from sfumato.images.declared import declared_profile
from sfumato.images.heif import enable_heif, is_heif
from sfumato.images.limits import MAX_PIXELS
from sfumato.images.loaded_image import LoadedImage, composite
from sfumato.images.metadata import Dpi, read_dpi, read_exif
from sfumato.images.orientation import UPRIGHT, UPRIGHT_ARRAY, orientation_of
from sfumato.images.other_files import description, unsupported_format
from sfumato.images.samples import Samples16, depth_note, from_array, grey_tiff, transparent_colour
from sfumato.images.sixteen_bit import eight_bits, samples_of_16_bits
from sfumato.images.structure import MOST_FRAMES, count_frames, declared_size, problem
from sfumato.regular_files import open_regular, reason

Source: TypeAlias = str | bytes | os.PathLike[str] | Image.Image | NDArray[np.uint8]

#: File formats that are read. Pillow must not try its other formats, since some of them run external programs.
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "HEIF")
#: Extensions of these formats; MPO is JPEG with further images.
SUFFIXES_OF = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "AVIF": (".avif", ".avifs"),
    "HEIF": (".heic", ".heics", ".heif", ".heifs", ".hif"),
}
DEEP_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N", "F")
_pillow_limit = Lock()


def read_image(
    source: Source,
    max_pixels: int = MAX_PIXELS,
    *,
    background: tuple[int, int, int] = (255, 255, 255),
) -> LoadedImage:
    """Read an image and convert it to the model's input: upright, opaque, 8-bit sRGB.

    Args:
        source: path, bytes of a file, PIL image, or uint8 array: grey [h, w], sRGB [h, w, 3] or with straight alpha
            [h, w, 4].
        max_pixels: largest width x height that is read, at least 1.
        background: sRGB colour under transparent pixels, 0..255.

    Raises:
        BadInput: the source cannot be read completely; the message names the file.
    """
    if not (
        isinstance(background, Sequence)
        and len(background) == 3
        and all(isinstance(level, int | np.integer) and 0 <= level <= 255 for level in background)
    ):
        raise BadInput(f"background must be three integer levels in 0..255, not {background!r:.80}.")
    found = open_upright(source, max_pixels, samples16=True)
    image, name, mode = found.image, found.name, found.image.mode
    opaque, alpha = split_alpha(image, name)
    del image  # limits the number of copies of a large image in memory
    try:
        colours = to_srgb(opaque, found.icc)
    except (OSError, ValueError) as error:
        raise BadInput(f"{name}: pixels of mode {mode} cannot be converted to sRGB: save it as RGB.") from error
    rgb = colours.srgb if alpha is None else composite(colours.srgb, alpha, background)
    # Samples in a profile that cannot be embedded in the output cannot be restored.
    samples16 = found.samples16 if found.icc is None or colours.icc is not None else None
    if samples16 is not None and samples16.ndim == 2 and alpha is not None:  # a transparent level
        samples16 = np.stack([samples16, alpha.astype(np.uint16) * 257], axis=-1)
    clear = (
        "" if alpha is None or alpha.any() else "all pixels are transparent: remove the alpha channel to see an edit"
    )
    note = "; ".join(part for part in (*found.notes, clear, colours.note, found.depth) if part)
    return LoadedImage(
        rgb, alpha, colours.native, colours.icc, mode, name, note, background,
        samples16=samples16, exif=found.exif, dpi=found.dpi, file_format=found.file_format,
    )  # fmt: skip


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
        _check_size(source.size, max_pixels, name)
        yield source
        return
    with _file(source) as file:
        try:
            head = file.read(1024)
            file.seek(0)
        except OSError as error:  # such as /proc/PID/mem
            raise BadInput(f"{name} cannot be read ({reason(error)}): give an image file.") from error
        if not head:
            raise BadInput(f"{name} is empty (0 bytes): give an image file.")
        if other := unsupported_format(head):
            raise BadInput(f"{name} {other}")
        if wrong := problem(file):
            raise BadInput(f"{name} {wrong}, which takes too long to decode: save the image again.")
        if size := declared_size(file):
            _check_size(size, max_pixels, name)
        heif = "HEIF" in formats and is_heif(head)
        if heif and (wrong := enable_heif()):
            raise BadInput(f"{name} {wrong}")
        file.seek(0)
        try:
            with _without_limit():
                image = Image.open(file, formats=["HEIF"] if heif else [each for each in formats if each != "HEIF"])
        except Image.UnidentifiedImageError as error:
            raise BadInput(f"{name} {description(head)}") from error
        except Exception as error:  # decoders raise many types of exceptions for malformed files
            raise BadInput(f"{name} is damaged ({reason(error)}): use another copy.") from error
        with image:
            _check_size(image.size, max_pixels, name)
            yield image


def load_pixels(image: Image.Image, name: str) -> None:
    """Decode the pixels. Raises BadInput if the file is truncated or damaged, which only decoding reveals."""
    try:
        image.load()
    except Exception as error:  # decoders raise OSError, ValueError, SyntaxError, EOFError, struct.error, ...
        raise BadInput(f"{name} is truncated or damaged ({reason(error)}): use another copy.") from error


@dataclass(frozen=True, eq=False)
class Opened:
    """The first frame of an image file, decoded and upright.

    Attributes:
        image: the pixels.
        name: name for messages.
        notes: remarks on the interpretation of the file.
        depth: note on a depth of more than 8 bits per channel, "" for 8.
        file_format: Pillow's name of the format, "" for images in memory.
        icc: the profile that the file embeds or declares; None for sRGB.
        samples16: the samples of 16 bits per channel, upright; None for other files.
        exif: the EXIF block to keep.
        dpi: the declared resolution of the upright image.
    """

    image: Image.Image
    name: str
    notes: list[str]
    depth: str = ""
    file_format: str = ""
    icc: bytes | None = None
    samples16: Samples16 | None = field(default=None, repr=False)
    exif: bytes = b""
    dpi: Dpi | None = None


def open_upright(source: Source, max_pixels: int, *, samples16: bool = False) -> Opened:
    """Open an image and turn it upright.

    Args:
        source: as in `read_image`.
        max_pixels: as in `read_image`.
        samples16: also return the samples of 16 bits per channel.
    """
    name = display_name(source)
    with opened(source, max_pixels) as image:
        depth, (key, key_note), frames = depth_note(image), transparent_colour(image), _frames(image)
        file_format = image.format or ""
        from_file = not isinstance(source, Image.Image)  # the file of a Pillow image may be closed
        icc, declared = declared_profile(image, from_file=from_file)
        # Pillow decodes 16-bit grey itself.
        own = samples16 and from_file and depth and not image.mode.startswith("I;16")
        samples = samples_of_16_bits(image) if own else None
        # Pillow turns a TIFF when it decodes it. For a PNG it would decode here, and hide damage from `load_pixels`.
        turned = orientation_of(image)[0] if file_format == "TIFF" else None
        to_levels = grey_tiff(image)
        load_pixels(image, name)
        orientation, exif_note = orientation_of(image)
        stored = turned or orientation
        exif, left_out = read_exif(image, stored)
        dpi = read_dpi(image, stored)
        upright = to_levels(image.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else image.copy())
        info = {name: value for name, value in image.info.items() if name != "transparency"}
        upright.info = info if key is None else info | {"transparency": key}
        notes = [frames, key_note, exif_note or left_out, declared]
    if samples is None and samples16 and depth and upright.mode.startswith("I;16"):
        samples = np.asarray(upright).astype(np.uint16)
    elif samples is not None:
        samples = np.ascontiguousarray(UPRIGHT_ARRAY.get(stored, lambda a: a)(samples))
        rounded = Image.fromarray(eight_bits(samples))  # Pillow has the upper 8 bits
        rounded.info, upright = upright.info, rounded
    return Opened(upright, name, notes, depth, file_format, icc, samples, exif, dpi)


def _frames(image: Image.Image) -> str:
    """Note on the selected frame of a file with several frames; a Pillow image may be at a later frame."""
    one = f"frame {image.tell() + 1}" if image.tell() else "first frame"
    try:
        file = getattr(image, "fp", None)
        counted = None if file is None else count_frames(file, image.format or "")
        count = int(getattr(image, "n_frames", 1)) if counted is None else counted
    except Exception:  # later frames are not used, so damage in them is accepted
        return f"several frames, the later ones damaged: {one} used"
    if count <= 1:
        return ""
    more = f"{count} or more" if count == MOST_FRAMES else str(count)
    if image.format in ("MPO", "TIFF", "HEIF"):
        return f"{more} images in one file: {one} used"
    return f"animated: {one} of {more} used"


def split_alpha(image: Image.Image, name: str) -> tuple[Image.Image, NDArray[np.uint8] | None]:
    """Return the 8-bit image without alpha, and the alpha, uint8 [h, w] or None."""
    key = image.info.get("transparency")
    if image.mode in DEEP_MODES:
        keyed = isinstance(key, int) and not isinstance(key, bool)
        alpha = np.where(np.asarray(image) == key, 0, 255).astype(np.uint8) if keyed else None
        return to_eight_bits(image, name), alpha
    if key is not None or image.mode in ("RGBA", "LA", "PA", "RGBa"):
        with_alpha = image if key is None and image.mode == "RGBA" else _convert(image, "RGBA", name)
        opaque = with_alpha.getchannel("R") if image.mode in ("L", "LA") else with_alpha.convert("RGB")
        return opaque, np.asarray(with_alpha.getchannel("A"), dtype=np.uint8)
    if image.mode in ("L", "RGB", "CMYK", "LAB", "YCbCr"):
        return image, None
    return _convert(image, "L" if image.mode == "1" else "RGB", name), None


def _convert(image: Image.Image, mode: str, name: str) -> Image.Image:
    try:
        return image.convert(mode)
    except (ValueError, OSError, TypeError, OverflowError) as error:
        raise BadInput(f"{name}: {image.mode} pixels cannot be converted to {mode}: save it as {mode}.") from error


def _check_size(size: tuple[int, int], max_pixels: int, name: str) -> None:
    width, height = size
    if width * height == 0:
        raise BadInput(f"{name} is {width} x {height} pixels: the image is empty.")
    if width * height > max_pixels:
        raise BadInput(
            f"{name} has {width} x {height} = {width * height:,} pixels, more than the limit of "
            f"{max_pixels:,}: make it smaller or raise max_pixels (--max-pixels)."
        )


def _file(source: str | bytes | os.PathLike[str]) -> AbstractContextManager[BinaryIO]:
    return nullcontext(io.BytesIO(source)) if isinstance(source, bytes) else open_regular(source, "give an image file")


@contextmanager
def _without_limit() -> Iterator[None]:
    """Disable Pillow's global pixel limit, because it warns and its message does not name the size of the image.

    Only for opening a file, which does not decode its pixels; `_check_size` follows.
    """
    with _pillow_limit:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before
