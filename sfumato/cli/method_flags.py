"""Flags of one method, or of several combined in one edit: `--method A --method B`, `--OPTION`, `--METHOD.OPTION`."""

import argparse
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import Field
from functools import partial
from typing import TYPE_CHECKING, Any

from sfumato.cli.flags import add_option, add_options, flag_of, values_of
from sfumato.cli.parser import CommandParser
from sfumato.errors import BadInput

if TYPE_CHECKING:
    from sfumato.editing.registry import Method
    from sfumato.options.option import Stage


def add_methods(parser: CommandParser, names: Sequence[str], words: Sequence[str]) -> None:
    """Add the parameters of these methods, with their defaults for the model that `words` select."""
    from sfumato.editing.registry import METHODS
    from sfumato.options.params import options_of

    found = [METHODS.find(name) for name in names]
    first, *others = found
    parser.hint = partial(options_elsewhere, names=names)
    values, origin = values_of(first, words)
    if not others:
        add_options(parser, f"{first.name} ({origin})", options_of(first.params), values)
        return
    add_options(parser, f"inversion and sampling, {first.name} ({origin})", run_of(first), values)
    add_edit_options(parser, found, words)


def add_edit_options(parser: CommandParser, methods: "Sequence[Method]", words: Sequence[str]) -> None:
    """Add the options of the edit by several methods: --METHOD.OPTION, and --OPTION if only one method has it.

    Raises:
        BadInput: a method is named twice.
    """
    from sfumato.editing.registry import check_once

    check_once(methods)
    parser.hint = partial(options_elsewhere, names=[method.name for method in methods])
    edits = {method.name: edits_of(method) for method in methods}
    for method in methods:
        values, origin = values_of(method, words)
        group = parser.add_argument_group(f"{method.name} ({origin})")
        for name, option in edits[method.name].items():
            owners = [each for each, own in edits.items() if name in own]
            flags = [f"--{method.name}.{flag_of(name)[2:]}"]
            flags += [flag_of(name)] if len(owners) == 1 else []
            add_option(group, flags, option, _dest(method.name, name), values[name])
            if owners[0] == method.name and len(owners) > 1:
                parser.add_argument(flag_of(name), action=_Ambiguous, owners=owners, help=argparse.SUPPRESS)


def options_elsewhere(flag: str, names: Sequence[str], stages: "Sequence[Stage]" = ()) -> str:
    """End of an error message about an unknown flag that is an option of other methods than `names`; "" otherwise."""
    from sfumato.editing.registry import METHODS
    from sfumato.options.params import options_of

    owner, _, option = flag.partition("=")[0].removeprefix("--").rpartition(".")
    having = [
        name
        for name, method in METHODS.items()
        if owner in ("", name) and f"--{option}" in map(flag_of, options_of(method.params, *stages))
    ]
    if not having or not set(having).isdisjoint(names):
        return ""
    several = f"one of the methods {', '.join(having)}" if len(having) > 1 else f"the method {having[0]}"
    return f", an option of {several}: name the method with --method"


def edit_options(arguments: Namespace, methods: "Sequence[Method]") -> dict[str, dict[str, Any]]:
    """The options of `add_edit_options` that the user gave, by method."""
    return {
        method.name: {
            name: value
            for name in edits_of(method)
            if (value := getattr(arguments, _dest(method.name, name), None)) is not None
        }
        for method in methods
    }


def run_of(method: "Method") -> "dict[str, Field[Any]]":
    """The options of a method for the inversion and the sampling run."""
    from sfumato.options.params import SHARED, options_of

    return {
        n: each for n, each in options_of(method.params).items() if n in SHARED or each.metadata["stage"] == "invert"
    }


def edits_of(method: "Method") -> "dict[str, Field[Any]]":
    """The options of a method for the edit, without those of the sampling run."""
    from sfumato.options.params import SHARED, options_of

    return {name: each for name, each in options_of(method.params, "edit").items() if name not in SHARED}


def _dest(method: str, name: str) -> str:
    return f"{method}.{name}"


class _Ambiguous(argparse.Action):
    """A flag that several of the methods define: an error."""

    def __init__(self, option_strings: Sequence[str], dest: str, owners: Sequence[str], **settings: Any) -> None:
        super().__init__(option_strings, dest, nargs="?", **settings)
        self.owners = owners

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        flag = str(option_string)
        choices = " or ".join(f"--{owner}.{flag[2:]}" for owner in self.owners)
        raise BadInput(f"{flag} is an option of {' and '.join(self.owners)}: give {choices}.")
