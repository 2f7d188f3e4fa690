"""`sfumato recipe`: the settings that are saved in an image."""

from argparse import Namespace
from collections.abc import Sequence

from sfumato.cli.inputs import add_max_pixels
from sfumato.cli.parser import CommandParser
from sfumato.cli.report import print_json


def describe(parser: CommandParser, words: Sequence[str]) -> None:
    """Add the image."""
    parser.usage = "sfumato recipe IMAGE [--max-pixels N]"
    parser.add_argument("image", metavar="IMAGE", help="image written by sfumato")
    add_max_pixels(parser)
    parser.example("sfumato recipe out.png")


def run(arguments: Namespace) -> None:
    """Print the recipe as one JSON object."""
    from sfumato.images import read_recipe

    print_json(read_recipe(arguments.image, arguments.max_pixels))
