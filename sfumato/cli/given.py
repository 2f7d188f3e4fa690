"""Flags from files: a preset (--preset) or the recipe of an image (--recipe). The command line overrides them."""

from argparse import Action
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sfumato.cli.defaults import config_folder
from sfumato.cli.flags import typed
from sfumato.cli.parser import CommandParser, before_dashes
from sfumato.errors import BadInput
from sfumato.suggestions import suggestion

#: Groups of flags: if one of a group is given, the flags of the group from files are ignored.
_INSTEAD = (
    ("--mask-words", "--mask-difference", "--mask-threshold"),
    ("--out", "-o", "--out-dir"),
    ("--seed", "--seeds"),
)
#: Flags that --no-mask on the command line replaces.
_MASKS = ("--mask", "--mask-transparent", "--mask-as-is", "--mask-words", "--mask-difference", "--mask-threshold")
#: Flags that are read from the command line before the presets.
_OF_COMMAND_LINE = ("--preset", "--debug")
_GIVE = "give the name of a preset or a TOML file"


@dataclass(frozen=True)
class Flags:
    """Flags with their values, in order.

    Attributes:
        origin: name of the file in messages.
        values: values by flag, such as "--steps" -> ["50"]; [] for a switch.
    """

    origin: str
    values: Mapping[str, Sequence[str]]

    def words(self, parser: CommandParser | None = None) -> list[str]:
        """The flags as command line arguments; with a parser, in the form that each flag requires.

        Raises:
            BadInput: the parser has no such flag.
        """
        found: list[str] = []
        for flag, values in self.values.items():
            if parser is not None and len(values) > 1 and self._action(parser, flag).nargs in ("+", len(values)):
                found += [flag, *values]
            else:
                found += [f"{flag}={value}" for value in values] or [flag]
        return found

    def _action(self, parser: CommandParser, flag: str) -> Action:
        known = parser.flags()
        if flag not in known:
            raise BadInput(
                f"{self.origin} has {flag[2:]!r:.100}, and there is no flag {flag:.100}{suggestion(flag, known)}"
            )
        return known[flag]

    def fitting(self, parser: CommandParser) -> "Flags":
        """These flags, without switches that are off by default.

        Raises:
            BadInput: the command has no such flag, or one that takes a value is switched on or off.
        """
        known, fitting = parser.flags(), dict[str, Sequence[str]]()
        for flag, values in self.values.items():
            off = flag not in known and f"--{flag.removeprefix('--no-')}" in known
            switched = f"--{flag.removeprefix('--no-')}" if off else flag
            if self._action(parser, switched).nargs not in (0, "?") and not values:
                state = "false" if off else "true"
                raise BadInput(f"{self.origin} has {switched[2:]} = {state}, but {switched} takes a value: give one.")
            if not off:
                fitting[flag] = values
        return Flags(self.origin, fitting)

    def without(self, flags: Sequence[str]) -> "Flags":
        """These flags without the given `flags` and without the other flags of their groups."""
        taken = set(flags)
        for group in _INSTEAD:
            if taken & set(group):
                taken |= set(group)
        return Flags(self.origin, {flag: values for flag, values in self.values.items() if flag not in taken})


def joined(sources: Sequence[Flags], words: Sequence[str], parser: CommandParser | None = None) -> list[str]:
    """Combine the command line with the flags from files; later files override earlier ones.

    They are inserted before the first flag, so that one with several values does not consume the images.

    Args:
        sources: the flags from each file.
        words: the command line arguments, which override all files.
        parser: parser of the command; None before it is known.

    Raises:
        BadInput: a file contains a flag that the command does not have.
    """
    taken = _all_names(typed_flags(words), parser)
    found: list[str] = []
    for flags in reversed(sources):
        taken += _overridden([*found, *words])
        left = (flags if parser is None else flags.fitting(parser)).without(taken)
        found += left.words(parser)
        taken += _all_names(left.values, parser)
    first = next((n for n, word in enumerate(words) if word.startswith("-")), len(words))
    return [*words[:first], *found, *words[first:]]


def _overridden(words: Sequence[str]) -> list[str]:
    """Flags of files that flags with other names in `words` override."""
    tiles = ["--tiles"] if typed(words, "--resolution") == "native" else []
    return [*tiles, *(_MASKS if "--no-mask" in typed_flags(words) else ())]


def typed_flags(words: Sequence[str]) -> list[str]:
    """The flags on the command line."""
    flags = [word for word in before_dashes(words) if word.startswith("-")]
    return [word.partition("=")[0] if word.startswith("--") else word[:2] for word in flags]  # -oFILE, too


def _all_names(flags: Iterable[str], parser: CommandParser | None) -> list[str]:
    """These flags, under all of their names."""
    known = {} if parser is None else parser.flags()
    return [name for flag in flags for name in (flag, *(known[flag].option_strings if flag in known else ()))]


def preset(command: str, named: str) -> Flags:
    """The flags of a command in a preset: a TOML file with a table for every command.

    Args:
        command: name of the command, such as "edit".
        named: a file ending in .toml, or the name of one in the folder `presets` of the user's settings.

    Raises:
        BadInput: there is no such preset, it has no table for the command, or a value has an invalid type.
    """
    from sfumato.text_files import read_toml

    path = Path(named) if named.lower().endswith(".toml") else config_folder() / "presets" / f"{named}.toml"
    if not path.is_file():
        there = sorted(each.stem for each in (config_folder() / "presets").glob("*.toml"))
        raise BadInput(f"there is no preset {named} ({path} does not exist): {_known(there)}.")
    tables = read_toml(path, _GIVE)
    table = tables.get(command)
    if not isinstance(table, dict):
        raise BadInput(f"the preset {path} has no table [{command}] with flags of this command: add one.")
    flags = dict(_flag(path, name, value) for name, value in table.items())
    if early := [flag for flag in _OF_COMMAND_LINE if flag in flags]:
        raise BadInput(
            f"the preset {path} has {early[0][2:]!r}, which is read before presets: give {early[0]} instead."
        )
    return Flags(f"the preset {path}", flags)


def _known(names: Sequence[str]) -> str:
    return f"the presets are {', '.join(names)}" if names else _GIVE


def _flag(path: Path, name: str, value: Any) -> tuple[str, list[str]]:
    """A flag and its values: true is the switch --NAME, false --no-NAME."""
    name = name.removeprefix("--").replace("_", "-")
    if isinstance(value, bool):
        return f"--{'' if value else 'no-'}{name}", []
    values = value if isinstance(value, list) else [value]
    if not values or not all(type(each) in (str, int, float) for each in values):
        raise BadInput(f"the preset {path}: {name!r:.100} must be a text, a number, true, false or a list of these.")
    return f"--{name}", [str(each) for each in values]
