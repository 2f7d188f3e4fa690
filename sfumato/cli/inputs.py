"""What commands read."""

from sfumato.cli.parser import CommandParser, whole


def add_max_pixels(parser: CommandParser) -> None:
    """The largest picture that is read: files from anywhere may claim to be larger than the memory."""
    from sfumato.images import MAX_PIXELS

    text = f"largest picture that is read, width x height; default {MAX_PIXELS}"
    parser.add_argument("--max-pixels", type=whole(1), default=MAX_PIXELS, metavar="N", help=text)
