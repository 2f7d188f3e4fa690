"""The commands of sfumato and of other packages by name, and parsing of the command line.

Another package names its module in the entry point group `sfumato.commands`; see docs/extending.md.
"""

from argparse import Namespace
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Protocol

from sfumato import __version__
from sfumato.cli.flags import typed_all
from sfumato.cli.given import Flags, joined, preset
from sfumato.cli.parser import CommandParser
from sfumato.errors import BadInput
from sfumato.images.limits import MAX_PIXELS
from sfumato.plugins import Unloaded, package_of
from sfumato.suggestions import suggestion

#: Name -> (module, one line), in the order of `sfumato --help`.
COMMANDS = {
    "edit": ("edit", "edit a real image with a text prompt"),
    "sweep": ("sweep", "edit one image with a grid of settings; write a contact sheet and a table"),
    "invert": ("invert", "invert an image and save the inversion, to edit it many times"),
    "generate": ("generate", "generate images from prompts"),
    "directions": ("directions", "find unsupervised or text directions, save them, apply them to images"),
    "interpolate": ("interpolate", "interpolate between two images; write frames and an animation"),
    "demo": ("demo", "edit the example images with the bundled model"),
    "index": ("index", "index the images of a folder by content and style"),
    "search": ("search", "find images of an index by image, text, style, or both with weights"),
    "style": ("style", "render the content of an image in the style of others (PARASOL)"),
    "triplets": ("triplets", "find a content and a style image for every image of an index"),
    "models": ("models", "list the bundled models; `models path NAME` prints the folder of one"),
    "methods": ("methods", "list the editing methods, or the parameters of one"),
    "metrics": ("metrics", "compute metrics of an edit, or list the metrics"),
    "bench": ("bench", "compare editing methods on a benchmark; write a report with images"),
    "recipe": ("recipe", "print the settings that are saved in an image written by sfumato"),
    "data": ("data", "build a training dataset: `data emoji`"),
    "train": ("train", "train a diffusion model or its parts, encoders for search, delta-h or PARASOL tokens"),
    "doctor": ("doctor", "check the installation: packages, device, and a test reconstruction"),
}
_COMMON = f"""options of all commands:
  --preset NAME     TOML file with flags of the command, or the name of one of your presets
  --debug           show the traceback of an error

option of all commands that read images:
  --max-pixels N    largest input image, width x height in pixels; default {MAX_PIXELS}"""
EXAMPLE = 'sfumato edit heart.png --from "red heart, twemoji" --to "blue heart, twemoji" -o out.png'


class Command(Protocol):
    """A module with the functions of a command.

    A module may also have a function `flags_of_files`, which takes the command line arguments and returns the flags
    that are stored in files named by them (`sfumato.cli.given.Flags`).
    """

    def describe(self, parser: CommandParser, words: Sequence[str]) -> None:
        """Add the arguments of the command; `words` are the command line arguments after its name."""

    def run(self, arguments: Namespace) -> int | None:
        """Run the command. Returns an exit code, None for success."""


def parse(words: Sequence[str]) -> tuple[Command, Namespace]:
    """Parse the command line into a command and its arguments.

    Raises:
        BadInput: an unknown command or option, or an argument that is missing or of the wrong type.
        SystemExit: after --help or --version.
    """
    if not words or words[0].startswith("-"):
        _top_level().parse_args(words or ["--help"])
        raise BadInput(f"the first argument must be a command: sfumato {' | '.join(COMMANDS)}.")
    name, rest = words[0], words[1:]
    command, summary = _command(name)
    parser = CommandParser(prog=f"sfumato {name}", description=f"{summary[0].upper()}{summary[1:]}.")
    files = _flags_of_files(name, command, rest)
    command.describe(parser, joined(files, rest))
    parser.add_preset()
    parser.add_debug()
    return command, parser.parse_args(joined(files, rest, parser))


def _flags_of_files(name: str, command: Command, words: Sequence[str]) -> list[Flags]:
    """The flags from presets and from other files that the command reads; later ones override earlier ones.

    A file that the command line names overrides the presets, and a preset overrides the file that it names itself.

    Raises:
        BadInput: a file has no such flags.
    """
    presets = [preset(name, named) for named in typed_all(words, "--preset")]
    own: Callable[[Sequence[str]], list[Flags]] = getattr(command, "flags_of_files", lambda words: [])
    if found := own(words):
        return [*presets, *found]
    return [*own(joined(presets, words)), *presets]


def _command(name: str) -> tuple[Command, str]:
    """The command with a name and its one-line summary.

    Raises:
        BadInput: there is no such command, or its package cannot be imported.
    """
    if name in COMMANDS:
        module, summary = COMMANDS[name]
        return import_module(f"sfumato.cli.{module}"), summary
    others = _of_other_packages()
    if name not in others:
        raise BadInput(f"there is no command {name!r}{suggestion(name, [*COMMANDS, *others])}")
    try:
        return others[name].load(), f"a command of the package {package_of(others[name])}"
    except (Exception, SystemExit) as error:  # code of another package may raise anything
        raise BadInput(str(Unloaded.from_error("command", others[name], error))) from error


def _of_other_packages() -> dict[str, EntryPoint]:
    """The commands of other packages by name, without importing them."""
    return {entry.name: entry for entry in entry_points(group="sfumato.commands") if entry.name not in COMMANDS}


def _top_level() -> CommandParser:
    lines = [f"  {name:<13}{summary}" for name, (_, summary) in COMMANDS.items()]
    lines += [f"  {name:<13}of the package {package_of(entry)}" for name, entry in _of_other_packages().items()]
    parser = CommandParser(
        prog="sfumato",
        usage="sfumato COMMAND [options]",
        description="Edit real images with diffusion models.\n\ncommands:\n" + "\n".join(lines),
        epilog=f"{_COMMON}\n\nexample:\n  {EXAMPLE}\n\n`sfumato COMMAND --help` lists the options of a command.",
    )
    parser.add_argument(
        "--version", action="version", version=f"sfumato {__version__}", help="show the version and stop"
    )
    parser.add_debug()
    return parser
