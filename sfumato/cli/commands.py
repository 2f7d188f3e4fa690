"""The commands by name, and what the user typed made into one command and its arguments."""

from argparse import Namespace
from collections.abc import Sequence
from importlib import import_module
from typing import Protocol

from sfumato import __version__
from sfumato.cli.parser import CommandParser, suggestion
from sfumato.errors import BadInput

#: Name -> (module, one line), in the order of `sfumato --help`.
COMMANDS = {
    "edit": ("edit", "edit a real image by text"),
    "sweep": ("sweep", "try many settings on one picture; a contact sheet and a table"),
    "invert": ("invert", "invert an image once, to edit it many times"),
    "generate": ("generate", "make images from prompts"),
    "directions": ("directions", "directions without labels or between words, kept in files"),
    "interpolate": ("interpolate", "an animation from one picture to another"),
    "demo": ("demo", "edit the shipped examples with the shipped model"),
    "models": ("models", "list the shipped models; `models path NAME` prints a folder"),
    "methods": ("methods", "list the editing methods, or the parameters of one"),
    "metrics": ("metrics", "say in numbers what an edit did to a picture"),
    "bench": ("bench", "run methods over edits whose outcome is known; a table with pictures"),
    "recipe": ("recipe", "print how a PNG written by sfumato was made"),
    "data": ("data", "build a dataset: `data emoji`"),
    "train": ("train", "train an autoencoder, a dual encoder or a diffusion model"),
    "doctor": ("doctor", "say what is installed, which device is used and what works"),
}
EXAMPLE = 'sfumato edit heart.png --from "red heart, twemoji" --to "blue heart, twemoji" -o out.png'


class Command(Protocol):
    """A module of this package: it describes its arguments, and runs with them."""

    def describe(self, parser: CommandParser, words: Sequence[str]) -> None:
        """Add the command's arguments; `words` is what was typed after the command's name."""

    def run(self, arguments: Namespace) -> int | None:
        """Do it. Returns an exit code, None for success."""


def parse(words: Sequence[str]) -> tuple[Command, Namespace]:
    """The command that `words` names, and its arguments.

    Raises:
        BadInput: there is no such command or option, or an argument is missing or of the wrong type.
        SystemExit: after --help or --version.
    """
    if not words or words[0].startswith("-"):
        _top_level().parse_args(words or ["--help"])
        raise BadInput(f"a command comes first: sfumato {' | '.join(COMMANDS)}.")
    name, rest = words[0], words[1:]
    if name not in COMMANDS:
        raise BadInput(f"there is no command {name!r}{suggestion(name, COMMANDS)}")
    module, summary = COMMANDS[name]
    command: Command = import_module(f"sfumato.cli.{module}")
    parser = CommandParser(prog=f"sfumato {name}", description=f"{summary[0].upper()}{summary[1:]}.")
    command.describe(parser, rest)
    parser.add_debug()
    return command, parser.parse_args(rest)


def _top_level() -> CommandParser:
    lines = [f"  {name:<13}{summary}" for name, (_, summary) in COMMANDS.items()]
    parser = CommandParser(
        prog="sfumato",
        usage="sfumato COMMAND [options]",
        description="Edits real images inside diffusion models.\n\ncommands:\n" + "\n".join(lines),
        epilog=f"example:\n  {EXAMPLE}\n\n`sfumato COMMAND --help` tells more about one.",
    )
    parser.add_argument(
        "--version", action="version", version=f"sfumato {__version__}", help="show the version and stop"
    )
    parser.add_debug()
    return parser
