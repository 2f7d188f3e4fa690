"""What commands read."""

from typing import TYPE_CHECKING

from sfumato.cli.outputs import remark
from sfumato.cli.parser import CommandParser, whole

if TYPE_CHECKING:
    from sfumato.images import Picture


def add_max_pixels(parser: CommandParser) -> None:
    """The largest picture that is read: files from anywhere may claim to be larger than the memory."""
    from sfumato.images import MAX_PIXELS

    text = f"largest picture that is read, width x height; default {MAX_PIXELS}"
    parser.add_argument("--max-pixels", type=whole(1), default=MAX_PIXELS, metavar="N", help=text)


def read_picture(path: str, max_pixels: int) -> tuple["Picture", list[str]]:
    """The picture, and what the reader had to decide, which is said on stderr. Raises BadInput."""
    from sfumato.images import read_image

    picture = read_image(path, max_pixels)
    notes = [f"{picture.name}: {picture.note}."] if picture.note else []
    for sentence in notes:
        remark(sentence)
    return picture, notes
