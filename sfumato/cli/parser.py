"""An argparse parser with short help texts that end with an example, and one-sentence error messages."""

import argparse
import re
import shutil
import textwrap
from collections.abc import Callable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, NoReturn

from sfumato.cli.other_tools import instead_of
from sfumato.errors import BadInput
from sfumato.images.limits import LARGEST_SIDE
from sfumato.ranges import Range
from sfumato.suggestions import suggestion

_WIDEST = 100


class _Store(argparse._StoreAction):
    """Store the value of a flag, which is given once; several occurrences of a flag with several values are joined."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        if option_string is not None and self in parser.given:
            if self.nargs not in ("+", "*"):
                parser.error(f"{self.option_strings[-1]} was given twice: this command takes one")
            values = [*getattr(namespace, self.dest), *values]
        parser.given.add(self)
        super().__call__(parser, namespace, values, option_string)


class Switch(argparse.BooleanOptionalAction):
    """A flag with its opposite --no-NAME, of which only one is given."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        """Store True or False."""
        before = getattr(namespace, self.dest)
        super().__call__(parser, namespace, values, option_string)
        if before not in (None, getattr(namespace, self.dest)):
            parser.error(f"{self.option_strings[0]} and its opposite were both given: give one of them")


class Help(argparse.RawDescriptionHelpFormatter):
    """Help of at most 100 columns, with options and their texts side by side."""

    def __init__(self, prog: str, **settings: Any) -> None:
        width = min(_WIDEST, shutil.get_terminal_size((_WIDEST, 24)).columns)
        super().__init__(prog, max_help_position=28, width=width, **settings)

    def _split_lines(self, text: str, width: int) -> list[str]:
        """Lines of a help text; paths and names such as dual-encoder are not broken."""
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False, break_long_words=False)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        """ "-o, --out FILE" rather than "-o FILE, --out FILE"."""
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        value = self._format_args(action, self._get_default_metavar_for_optional(action))
        return f"{', '.join(action.option_strings)} {value}"


class CommandParser(argparse.ArgumentParser):
    """A parser that raises BadInput instead of printing its usage, and does not accept abbreviated options.

    A flag with one value that is given twice is an error, where argparse would silently keep the last value.

    Attributes:
        given: the arguments that have been read.
        hint: returns the end of the message about an unknown flag, or "" if it knows none.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(formatter_class=Help, allow_abbrev=False, add_help=False, **settings)
        self.given: set[argparse.Action] = set()
        self.hint: Callable[[str], str] = lambda flag: ""
        for name in (None, "store"):
            self.register("action", name, _Store)
        self.register("type", Path, _path)
        self._positionals = self._optionals  # a single list in the help, to keep it short
        self.add_argument("-h", "--help", action="help", help=argparse.SUPPRESS)

    def add_debug(self) -> None:
        """Add the flag --debug of all commands, which `sfumato.cli.main` reads; it is listed in `sfumato --help`."""
        self.add_argument("--debug", action="store_true", help=argparse.SUPPRESS)

    def add_preset(self) -> None:
        """Add the flag --preset of all commands, which `sfumato.cli.commands` reads; `sfumato --help` lists it."""
        if "--preset" not in self.flags():
            self.add_argument("--preset", action="append", metavar="NAME", help=argparse.SUPPRESS)

    def flags(self) -> dict[str, argparse.Action]:
        """All flags, under all of their names."""
        return {name: action for action in self._actions for name in action.option_strings}

    def example(self, *lines: str) -> None:
        """Examples, shown at the end of the help."""
        self.epilog = "example:\n" + "\n".join(f"  {line}" for line in lines)

    def error(self, message: str) -> NoReturn:
        """Raise the error as one sentence."""
        raise BadInput(f"{message.strip()} (see {self.prog} --help).")

    def parse_args(self, words: Any = None, namespace: Any = None) -> argparse.Namespace:  # type: ignore[override]
        """Like argparse's, but the message about an unknown option suggests a similar one."""
        self.given = set()
        arguments, unknown = self.parse_known_args(words, namespace)
        if unknown:
            known = self.flags()
            positional = [str(action.metavar) for action in self._actions if not action.option_strings]
            end = instead_of(unknown[0], {*known, *positional}) or self.hint(unknown[0])
            similar = suggestion(unknown[0].partition("=")[0], known).rstrip(".")
            self.error(f"unknown argument {unknown[0]!r}{end or similar}")
        return arguments


def before_dashes(words: Sequence[str]) -> list[str]:
    """The words before "--", which ends the flags."""
    return list(takewhile(lambda word: word != "--", words))


def integer(lowest: int, highest: int | None = None) -> Any:
    """An argparse type: an integer in a range."""
    return _number(int, "an integer", Range(low=lowest, high=highest))


def real(lowest: float, highest: float | None = None) -> Any:
    """An argparse type: a finite number in a range."""
    return _number(float, "a number", Range(low=lowest, high=highest))


def size(text: str) -> tuple[int, int]:
    """An argparse type: "64" or "96x64" -> (width, height) in pixels."""
    found = re.fullmatch(r"([0-9]{1,5})(?:x([0-9]{1,5}))?", text)
    sides = (0, 0) if found is None else (int(found[1]), int(found[2] or found[1]))
    if not all(0 < side <= LARGEST_SIDE for side in sides):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a size in pixels such as 64 or 96x64, at most {LARGEST_SIDE}"
        )
    return sides


def _path(text: str) -> Path:
    """The argparse type Path: as the class, but "" is not taken for the working folder."""
    if not text.strip():
        raise argparse.ArgumentTypeError("the path is empty: name a file or folder, `.` for the working folder")
    return Path(text)


def _number(kind: type, what: str, within: Range) -> Any:
    def convert(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or value not in within:
            raise argparse.ArgumentTypeError(f"{text!r} is not {what} ({within})")
        return value

    return convert
