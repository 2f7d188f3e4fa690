"""Flags that several commands share, and flags derived from the parameters of a method."""

from argparse import ArgumentTypeError, BooleanOptionalAction, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import Field
from typing import TYPE_CHECKING, Any

from sfumato.cli.parser import CommandParser, integer, real
from sfumato.errors import BadInput

if TYPE_CHECKING:
    from sfumato.api import Model
    from sfumato.methods.params import Params

_MOST_SEEDS = 1000


def add_model(parser: CommandParser) -> None:
    """Add the model, its device and its precision."""
    parser.add_argument(
        "--model", default="emoji", metavar="NAME", help="shipped model, diffusers folder, .safetensors file or hub id"
    )
    parser.add_argument(
        "--config", metavar="FOLDER", help="for a .safetensors file: diffusers folder of the same architecture"
    )
    parser.add_argument("--device", default="auto", metavar="NAME", help="auto (default), cpu, cuda, cuda:1, mps")
    parser.add_argument("--dtype", default="auto", metavar="NAME", help="auto (default: fp32), fp32, bf16, fp16")


def load_model(arguments: Namespace) -> "Model":
    """Load the model that the flags of `add_model` select. Raises BadInput."""
    import sfumato
    from sfumato.cli.quiet import quiet_libraries

    quiet_libraries()
    return sfumato.load(arguments.model, arguments.device, arguments.dtype, config=arguments.config)


def add_time(parser: CommandParser) -> None:
    """The timestep at which the bottleneck is read."""
    parser.add_argument(
        "--time",
        type=real(0, 1),
        default=1.0,
        metavar="N",
        help="timestep, as the fraction of the run that remains; default 1",
    )


def add_seeds(parser: CommandParser) -> None:
    """Add the flags of random seeds; every seed gives one output."""
    parser.add_argument(
        "--seed", nargs="+", type=int, default=[0], metavar="N", help="random seeds, one result per seed; default 0"
    )
    parser.add_argument(
        "--seeds", type=integer(1, _MOST_SEEDS), metavar="COUNT", help="number of seeds, counting up from --seed"
    )


def seeds_of(arguments: Namespace) -> list[int]:
    """The seeds in order, without duplicates. Raises BadInput if both flags give several seeds."""
    if arguments.seeds is None:
        return list(dict.fromkeys(arguments.seed))
    if len(arguments.seed) > 1:
        raise BadInput("give either several numbers to --seed or a count to --seeds, not both.")
    return [arguments.seed[0] + n for n in range(arguments.seeds)]


def add_options(parser: CommandParser, title: str, options: Mapping[str, "Field[Any]"]) -> None:
    """Add one flag for each parameter of a method; without the flag, the default of the model applies."""
    group = parser.add_argument_group(title)
    for name, each in options.items():
        add_option(group, [flag_of(name)], each, dest=name)


def add_option(group: Any, flags: Sequence[str], option: "Field[Any]", dest: str) -> None:
    """Add the flags of one parameter."""
    from sfumato.methods.params import allowed

    text = option.metadata["help"].replace("%", "%%")
    if option.type is bool:
        group.add_argument(*flags, dest=dest, action=BooleanOptionalAction, default=None, help=text)
    elif option.type is str:
        words = f"; {allowed(option)}" if option.metadata["choices"] else ""
        group.add_argument(*flags, dest=dest, metavar="TEXT", help=text + words)
    else:
        kind = _whole_number if option.type is int else _number
        group.add_argument(*flags, dest=dest, type=kind, metavar="N", help=f"{text}; {allowed(option)}")


def given_options(arguments: Namespace, options: Mapping[str, "Field[Any]"]) -> dict[str, Any]:
    """The options that the user typed, with their values."""
    return {name: value for name in options if (value := getattr(arguments, name, None)) is not None}


def check_options(params: type["Params"], given: Mapping[str, Any]) -> None:
    """Refuse values out of range before a model is loaded; checks that depend on the model's defaults come later.

    Raises:
        BadInput: names the parameter and its range.
    """
    from sfumato.methods.params import defaults_of, options_of

    options = options_of(params)
    # skip must be less than steps. If only one of them is given, the default of the other must not cause an error.
    generous = {"steps": options["steps"].metadata["range"].high} if "steps" in options else {}
    generous |= {"skip": 0} if "skip" in options else {}
    params(**defaults_of(params, given, {}) | generous | dict(given)).check()


def typed_all(words: Sequence[str], flag: str) -> list[str]:
    """All values of a repeatable flag, read from the words because the parser depends on them."""
    found = []
    for n, word in enumerate(words):
        if word.startswith(f"{flag}="):
            found.append(word.partition("=")[2])
        elif word == flag and n + 1 < len(words):
            found.append(words[n + 1])
    return found


def typed(words: Sequence[str], flag: str) -> str | None:
    """The first value of a flag, read from the words because the parser depends on it."""
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
