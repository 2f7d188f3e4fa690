"""Flags of one method, or of several combined in one edit: `--method A --method B`, `--OPTION`, `--METHOD.OPTION`."""

import argparse
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from sfumato.cli.defaults import values_with
from sfumato.cli.flags import (
    add_option,
    add_options,
    check_options,
    files_of,
    flag_of,
    given_options,
    keeps_prompt,
    values_of,
)
from sfumato.cli.parser import CommandParser
from sfumato.errors import BadInput

if TYPE_CHECKING:
    from sfumato.editing.registry import Method
    from sfumato.options.option import Stage


@dataclass(frozen=True)
class Composed:
    """The methods of a command line, with their options.

    Attributes:
        methods: the methods, in order.
        run: options of the inversion and of the sampling run; for a single method, all of its options.
        own: if there are several methods, the edit options of each, by the name of the method.
    """

    methods: "tuple[Method, ...]"
    run: Mapping[str, Any]
    own: Mapping[str, Mapping[str, Any]]

    @property
    def first(self) -> "Method":
        """The first method, which determines the inversion."""
        return self.methods[0]

    @property
    def several(self) -> bool:
        """Whether more than one method is named."""
        return len(self.methods) > 1

    def named(self) -> list[tuple[str, Mapping[str, Any]]]:
        """Names and options, as `Inverted.edit_steps` takes them."""
        from sfumato.options.params import SHARED, options_of

        if self.several:
            return [(method.name, self.own[method.name]) for method in self.methods]
        edits = options_of(self.first.params, "edit")
        return [(self.first.name, {n: v for n, v in self.run.items() if n in edits and n not in SHARED})]

    def shared(self) -> dict[str, Any]:
        """Options with one value for all methods."""
        from sfumato.options.params import SHARED

        return {name: value for name, value in self.run.items() if name in SHARED}

    def check(self) -> None:
        """Raise BadInput for values out of range, before a model is loaded."""
        for method in self.methods:
            check_options(method.params, self._given(method))

    @property
    def keeps_prompt(self) -> bool:
        """Whether the edit needs no target prompt, as in `sfumato.api.composition.Composition`."""
        return any(keeps_prompt(method.params, self._given(method)) for method in self.methods)

    def check_negative(self, negative_prompt: str, model: str) -> None:
        """Check that a negative prompt has an effect with the given options and the model's defaults.

        A model on the hub is not checked, as its defaults are not known before it is downloaded.

        Raises:
            BadInput: the negative prompt is not empty and has no effect, or there is no such model.
        """
        from sfumato.api.prompts import check_used, uses_negative
        from sfumato.models.names import place_of

        if not negative_prompt.strip() or place_of(model) is None:
            return
        params = [
            method.params(**values_with(model, method.params, method.section, self._given(method))[0])
            for method in self.methods
        ]
        scale = getattr(params[0], "guidance_scale", None)
        if scale is not None:
            check_used(negative_prompt, partial(uses_negative, params), [scale])

    @property
    def files(self) -> list[str]:
        """The files that options of the methods name. Raises BadInput for options that cannot be read."""
        return [path for method in self.methods for path in files_of(method.params, self._given(method))]

    def _given(self, method: "Method") -> dict[str, Any]:
        """The options that a method gets."""
        from sfumato.options.params import options_of

        known = options_of(method.params)
        run = {name: value for name, value in self.run.items() if name in known}
        return {**run, **self.own.get(method.name, {})}

    def check_unnamed(self, given: bool) -> None:
        """Check, for an inversion that is read from a file, that the command line has no options of the inversion.

        Args:
            given: whether the source prompt or a seed is given.

        Raises:
            BadInput: one of them, or an option of the methods for the inversion, is given.
        """
        from sfumato.options.params import options_of

        fixed = [name for name in options_of(self.first.params, "invert") if name in self.run]
        if fixed or given:
            raise BadInput(
                "--from, --seed and the other options of the inversion are stored in its file and cannot be changed: "
                "leave them out, or give the image."
            )


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


def composed(arguments: Namespace, names: Sequence[str]) -> Composed:
    """The methods with these names and the options that the command line gives them."""
    from sfumato.editing.registry import METHODS
    from sfumato.options.params import options_of

    methods = tuple(METHODS.find(name) for name in names)
    if len(methods) == 1:
        return Composed(methods, given_options(arguments, options_of(methods[0].params)), {})
    return Composed(methods, given_options(arguments, run_of(methods[0])), edit_options(arguments, methods))


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
