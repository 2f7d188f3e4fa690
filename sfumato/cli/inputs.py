"""Inputs of commands: images, saved inversions and masks."""

import os
import re
from argparse import SUPPRESS, ArgumentTypeError, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfumato.cli.flags import typed
from sfumato.cli.outputs import remark
from sfumato.cli.parser import CommandParser, integer
from sfumato.errors import BadInput
from sfumato.files import printable
from sfumato.images.limits import LARGEST_SIDE, MAX_PIXELS
from sfumato.regular_files import check_regular

if TYPE_CHECKING:
    from sfumato.images import LoadedImage, Mask


def add_max_pixels(parser: CommandParser) -> None:
    """Add the limit on the size of input images, because an untrusted file may declare a size that exceeds the memory.

    The flag is listed in `sfumato --help`.
    """
    parser.add_argument("--max-pixels", type=integer(1), default=MAX_PIXELS, metavar="N", help=SUPPRESS)


def limit_of(words: Sequence[str]) -> int:
    """The limit in `words`, read before they are parsed; the default if the value is invalid."""
    text = typed(words, "--max-pixels") or ""
    return max(1, int(text)) if text.isdecimal() else MAX_PIXELS


def add_resolution(parser: CommandParser, *, tiles: bool = True) -> None:
    """Add the size at which images are edited.

    Args:
        parser: parser of the command.
        tiles: whether the command can evaluate the network in tiles.
    """
    text = "edit at native, full or about N x N size; default: native if large"
    parser.add_argument("--resolution", type=_resolution, metavar="SIZE", help=text)
    text = "with --resolution full or N: overlapping tiles of the native size"
    if tiles:
        parser.add_argument("--tiles", action="store_true", help=text)


def check_resolution(arguments: Namespace) -> None:
    """Raise BadInput for --tiles at the native size, before any file is read."""
    if arguments.tiles and arguments.resolution in (None, "native"):
        raise BadInput("--tiles is for images that are edited at more than the native size: give --resolution full.")


def _resolution(text: str) -> int | str:
    if text in ("native", "full"):
        return text
    if re.fullmatch("[0-9]{1,5}", text) and 0 < int(text) <= LARGEST_SIDE:
        return int(text)
    raise ArgumentTypeError(f"{text!r} is not a number of pixels up to {LARGEST_SIDE}, native or full")


def add_mask(
    parser: CommandParser, text: str = "mask image: white is edited; with --mask-transparent, what is transparent"
) -> None:
    """Add the mask image.

    Args:
        parser: parser of the command.
        text: help of --mask.
    """
    parser.add_argument("--mask", metavar="IMAGE", help=text)
    parser.add_argument("--mask-transparent", action="store_true", help=SUPPRESS)  # named in the help of --mask
    parser.add_argument("--mask-as-is", action="store_true", help=SUPPRESS)  # the refusal of a picture names it


def add_no_mask(parser: CommandParser) -> None:
    """Add the flag that leaves out the masks of a recipe or preset; the help of --recipe names it."""
    parser.add_argument("--no-mask", action="store_true", help=SUPPRESS)


def add_masks(parser: CommandParser) -> None:
    """Add the masks: a mask image, or a mask computed from words or from the two prompts."""
    add_mask(parser)
    parser.add_argument(
        "--mask-words", default="", metavar="TEXT", help='edit only where cross-attention finds these words: "cat,dog"'
    )
    parser.add_argument(
        "--mask-difference",
        action="store_true",
        help="edit only where the predictions of the two prompts differ (DiffEdit)",
    )
    parser.add_argument(
        "--mask-threshold",
        type=float,
        metavar="N",
        help="threshold of --mask-words (default 0.3) or --mask-difference (1.5)",
    )


def masks_of(arguments: Namespace) -> dict[str, Any]:
    """The flags of `add_masks` as arguments of `Inverted.edit`."""
    return {name: getattr(arguments, name) for name in ("mask", "mask_words", "mask_difference", "mask_threshold")}


def check_region_words(arguments: Namespace, sources: Sequence[str], targets: Sequence[str]) -> None:
    """Check --mask-words and --mask-difference, and that the prompts contain the words.

    Raises:
        BadInput: the flags contradict each other, or neither prompt of an image contains a word.
    """
    from sfumato.api.region_arguments import region
    from sfumato.options.prompt_words import check_named

    chosen = region(arguments.mask_words, arguments.mask_difference, arguments.mask_threshold)
    if chosen is not None:
        check_named(chosen.named_words, sources, targets)


def check_mask_flags(arguments: Namespace) -> None:
    """Raise BadInput if a flag that determines how the mask image is read is given without --mask."""
    if arguments.mask is None and arguments.mask_as_is:
        raise BadInput("--mask-as-is needs --mask, the image whose greys are weights: give both.")
    if arguments.mask is None and arguments.mask_transparent:
        raise BadInput("--mask-transparent needs --mask, the image with the transparent parts: give both.")


def read_mask_of(arguments: Namespace, *sizes: tuple[int, int]) -> tuple["Mask | None", list[str]]:
    """Read a mask image before a model is loaded; return it with remarks, which are also printed on stderr.

    Args:
        arguments: parsed arguments with `mask`, the file or None, `mask_transparent` and `mask_as_is`.
        sizes: (width, height) of every image in pixels; they must be equal.

    Raises:
        BadInput: the mask cannot be used.
    """
    size = sizes[0]
    check_mask_flags(arguments)
    if arguments.mask is None:
        return None, []
    if len(set(sizes)) > 1:
        raise BadInput("--mask applies to all images, but they have different sizes: edit each size separately.")
    from sfumato.images import transparent_parts
    from sfumato.images.mask import painted_mask

    path, limit = arguments.mask, arguments.max_pixels
    mask = painted_mask(
        transparent_parts(path, limit) if arguments.mask_transparent else path, size, as_is=arguments.mask_as_is
    )
    notes = [f"mask {mask.name}: {mask.note}."] if mask.note else []
    for sentence in notes:
        remark(sentence)
    return mask, notes


def read_image_and_notes(path: str, max_pixels: int, *, restores: bool = True) -> tuple["LoadedImage", list[str]]:
    """Read an image; return it with remarks on its conversion, which are also printed on stderr.

    Args:
        path: the image.
        max_pixels: width x height of the largest image that is read.
        restores: whether the command writes images with the depth of this one.

    Raises:
        BadInput: the image cannot be read.
    """
    if not os.path.exists(path):
        check_regular(path, "give an image file")  # before numpy and Pillow are imported
    from sfumato.images import read_image

    image = read_image(path, max_pixels)
    written = ", but PNG and TIFF outputs have 16" if restores and image.samples16 is not None else ""
    notes = [f"{image.name}: {image.note}{written}."] if image.note else []
    for sentence in notes:
        remark(sentence)
    return image, notes


def check_saved(path: "str | Path", what: str) -> None:
    """Check that a file exists, before torch is imported to read it.

    Args:
        path: the file.
        what: description of its content, such as "an inversion".

    Raises:
        BadInput: the file does not exist.
    """
    if not os.path.exists(path):
        raise BadInput(f"There is no file {printable(path)}: give {what} that was saved before.")


def is_inversion(path: str) -> bool:
    """Whether the path names a saved inversion instead of an image."""
    return path.lower().endswith(".safetensors")


def inputs(arguments: Namespace) -> list[str]:
    """The input files, which the command must not overwrite."""
    return [path for path in (arguments.image, arguments.mask) if path is not None]
