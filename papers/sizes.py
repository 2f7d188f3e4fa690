"""The size of a measurement on the command line of a script."""

from argparse import ArgumentParser, Namespace
from dataclasses import asdict, replace
from typing import Any, TypeVar

Size = TypeVar("Size", bound=Any)


def add_sizes(parser: ArgumentParser, usual: Any) -> None:
    """Add a flag for every field of a size, a dataclass of integers, and --quick."""
    for name, value in asdict(usual).items():
        parser.add_argument(f"--{name}", type=int, help=f"default {value}")
    parser.add_argument("--quick", action="store_true", help="few images and steps: a smoke test")


def chosen_size(given: Namespace, usual: Size, quick: Size) -> Size:
    """The size that the command line selects: `usual`, or `quick` with --quick, with the given fields."""
    size = quick if given.quick else usual
    return replace(size, **{name: value for name in asdict(size) if (value := getattr(given, name)) is not None})
