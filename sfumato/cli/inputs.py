"""What commands read: pictures, inversions in their place, and what bounds an edit."""

from argparse import Namespace
from typing import TYPE_CHECKING, Any

from sfumato.cli.outputs import remark
from sfumato.cli.parser import CommandParser, integer

if TYPE_CHECKING:
    from sfumato.api.regions import Region
    from sfumato.images import Picture


def add_max_pixels(parser: CommandParser) -> None:
    """The largest picture that is read: files from anywhere may claim to be larger than the memory."""
    from sfumato.images import MAX_PIXELS

    text = f"largest picture that is read, width x height; default {MAX_PIXELS}"
    parser.add_argument("--max-pixels", type=integer(1), default=MAX_PIXELS, metavar="N", help=text)


def add_masks(parser: CommandParser) -> None:
    """Where the picture may change: painted, or found."""
    parser.add_argument("--mask", metavar="IMAGE", help="white where the picture may change; elsewhere it stays")
    parser.add_argument("--mask-words", default="", metavar="TEXT", help='change only where these words are: "cat,dog"')
    parser.add_argument("--mask-difference", action="store_true", help="change only where the prompts disagree")
    parser.add_argument("--mask-threshold", type=float, metavar="N", help="of the two above; default 0.3 and 1.5")


def masks_of(arguments: Namespace) -> dict[str, Any]:
    """The flags of `add_masks` as `Inverted.edit` takes them."""
    return {name: getattr(arguments, name) for name in ("mask", "mask_words", "mask_difference", "mask_threshold")}


def region_of(arguments: Namespace) -> "Region | None":
    """What the flags of masks that nobody painted say. Raises BadInput."""
    from sfumato.api.regions import region

    return region(arguments.mask_words, arguments.mask_difference, arguments.mask_threshold)


def check_mask(mask: str | None, size: tuple[int, int]) -> None:
    """Refuse a mask that cannot be used before a model is loaded. Raises BadInput."""
    if mask is not None:
        from sfumato.api.finish import inside

        inside(mask, size)


def read_picture(path: str, max_pixels: int) -> tuple["Picture", list[str]]:
    """The picture, and what the reader had to decide, which is said on stderr. Raises BadInput."""
    from sfumato.images import read_image

    picture = read_image(path, max_pixels)
    notes = [f"{picture.name}: {picture.note}."] if picture.note else []
    for sentence in notes:
        remark(sentence)
    return picture, notes


def is_inversion(path: str) -> bool:
    """Whether a command is given a saved inversion instead of a picture."""
    return path.lower().endswith(".safetensors")


def inputs(arguments: Namespace) -> list[str]:
    """The files that the command reads and must not overwrite."""
    return [path for path in (arguments.image, arguments.mask) if path is not None]
