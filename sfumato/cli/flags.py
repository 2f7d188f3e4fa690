"""Flags that several commands share, and flags derived from the parameters of a method."""

from argparse import ArgumentTypeError, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import Field
from typing import TYPE_CHECKING, Any

from sfumato.cli.defaults import default_model, values_with
from sfumato.cli.parser import CommandParser, Switch, before_dashes, integer, real
from sfumato.cli.report import shown
from sfumato.errors import BadInput

if TYPE_CHECKING:
    from sfumato.editing.registry import Method
    from sfumato.options.params import Params

_MOST_SEEDS = 1000


def add_time(parser: CommandParser) -> None:
    """Add the flag for the timestep at which the bottleneck is evaluated."""
    parser.add_argument(
        "--time",
        type=real(0, 1),
        default=1.0,
        metavar="N",
        help="timestep, as the remaining fraction of the run (1: t = T); default 1",
    )


def add_seeds(parser: CommandParser) -> None:
    """Add the flags of random seeds; every seed gives one output."""
    parser.add_argument(
        "--seed",
        nargs="+",
        type=integer(0),
        metavar="N",
        help="random seeds, one result per seed; default 0",
    )
    parser.add_argument(
        "--seeds", type=integer(1, _MOST_SEEDS), metavar="COUNT", help="number of consecutive seeds, starting at --seed"
    )


def seeds_of(arguments: Namespace) -> list[int]:
    """The seeds in order. Raises BadInput if both flags give several seeds."""
    seeds = [0] if arguments.seed is None else list(arguments.seed)
    if arguments.seeds is None:
        return seeds
    if len(seeds) > 1:
        raise BadInput("give either several numbers to --seed or a count to --seeds, not both.")
    return [seeds[0] + n for n in range(arguments.seeds)]


def check_distinct(seeds: Sequence[int]) -> None:
    """Raise BadInput if a seed occurs twice in a command whose results differ only in the seed."""
    if twice := [seed for n, seed in enumerate(seeds) if seed in seeds[:n]]:
        raise BadInput(f"--seed has {twice[0]} twice, which would give the same image twice: name every seed once.")


def add_options(
    parser: CommandParser, title: str, options: Mapping[str, "Field[Any]"], values: Mapping[str, Any]
) -> None:
    """Add one flag for each parameter of a method; the help contains its default from `values`, see `values_of`."""
    group = parser.add_argument_group(title)
    for name, each in options.items():
        add_option(group, [flag_of(name)], each, name, values[name])


def add_option(group: Any, flags: Sequence[str], option: "Field[Any]", dest: str, value: Any) -> None:
    """Add the flags of one parameter, with its default `value` in the help."""
    from sfumato.options.option import allowed, kind_of

    kind = kind_of(option)
    default = f"; default {shown_default(value)}" if value != "" else ""
    text, default = (each.replace("%", "%%") for each in (option.metadata["help"], default))
    if kind is bool:
        group.add_argument(*flags, dest=dest, action=Switch, default=None, help=text + default)
    elif kind is str:
        words = f"; {allowed(option)}" if option.metadata["choices"] else ""
        group.add_argument(*flags, dest=dest, metavar="TEXT", help=text + words + default)
    else:
        number = _whole_number if kind is int else _number
        group.add_argument(*flags, dest=dest, type=number, metavar="N", help=f"{text}; {allowed(option)}{default}")


def shown_default(value: Any) -> str:
    """The value of an option as its flag takes it; on or off for a switch."""
    return ("on" if value else "off") if isinstance(value, bool) else shown(value)


def values_of(method: "Method", words: Sequence[str]) -> tuple[dict[str, Any], str]:
    """The defaults of the options that are not in `words`, for the model that `words` select; see `values_with`."""
    model = typed(words, "--model") or default_model().name
    return values_with(model, method.params, method.section, depended_on(method.params, words))


def depended_on(params: type["Params"], words: Sequence[str]) -> dict[str, Any]:
    """The given options on which the defaults of others depend: the inversion and the number of steps."""
    from sfumato.options.params import choices_of, options_of

    found: dict[str, Any] = {}
    if (kind := typed(words, "--inversion")) in choices_of(params, "inversion"):
        found["inversion"] = kind
    steps = typed(words, "--steps") or ""
    if "steps" in options_of(params) and steps.isdecimal():
        found["steps"] = int(steps)
    return found


def given_options(arguments: Namespace, options: Mapping[str, "Field[Any]"]) -> dict[str, Any]:
    """The options that are given on the command line, with their values."""
    return {name: value for name in options if (value := getattr(arguments, name, None)) is not None}


def typed_all(words: Sequence[str], flag: str) -> list[str]:
    """All values of a repeatable flag in `words`, read before parsing because the parser depends on them."""
    found, words = [], before_dashes(words)
    for n, word in enumerate(words):
        if word.startswith(f"{flag}="):
            found.append(word.partition("=")[2])
        elif word == flag and n + 1 < len(words):
            found.append(words[n + 1])
    return found


def typed(words: Sequence[str], flag: str) -> str | None:
    """The first value of a flag in `words`, read before parsing because the parser depends on it."""
    return next(iter(typed_all(words, flag)), None)


def flag_of(name: str) -> str:
    """The flag of a parameter: "source_guidance_scale" -> "--source-guidance"."""
    return "--" + name.replace("guidance_scale", "guidance").replace("_", "-")


def _whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not an integer") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a number") from None
