"""Where results go: names for several of them, looked at before any work."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sfumato.cli.parser import CommandParser
from sfumato.cli.report import say
from sfumato.errors import BadInput
from sfumato.paths import check_inside

if TYPE_CHECKING:
    from sfumato.api import Result


def add_out(parser: CommandParser) -> None:
    """Where pictures go."""
    several = "an image file; several results: out-0.png, out-1.png, ..."
    parser.add_argument("-o", "--out", required=True, type=Path, metavar="OUT", help=several)


def output_paths(out: Path, count: int, *, size: tuple[int, int] | None = None, keep: Sequence[str] = ()) -> list[Path]:
    """One name for each result: `out` itself, or out-0.png, out-1.png, ... for several.

    Args:
        out: what the user named.
        count: how many results there will be.
        size: (width, height) of the results in pixels, where it is known.
        keep: files that must not be overwritten: the command's inputs.

    Raises:
        BadInput: a path cannot be written, or is one of the inputs.
    """
    from sfumato.images import check_output

    paths = [out] if count == 1 else [out.with_name(f"{out.stem}-{n}{out.suffix}") for n in range(count)]
    for path in paths:
        check_output(path, size)
        refuse_inputs(path, keep)
    return paths


def refuse_inputs(path: Path, inputs: Sequence[str]) -> None:
    """Raises BadInput when `path` is one of the inputs, by whatever name or link."""
    for each in inputs:
        if path.exists() and os.path.exists(each) and os.path.samefile(path, each):
            raise BadInput(f"{path} is an input of this command and would be overwritten: choose another output.")


def refuse_links_out(folder: Path, paths: Sequence[Path]) -> None:
    """Refuse what is to be written to a folder, which may come from elsewhere, where a link leads it out of there.

    Raises:
        BadInput: names the first such path.
    """
    if folder.is_dir():
        check_inside(folder, *(str(path.relative_to(folder)) for path in paths))


def save_all(result: "Result", paths: Sequence[Path], *, recipe: bool) -> list[str]:
    """Write every picture; what a format cannot hold is said on stderr, and returned."""
    notes = [(path, result.save(path, index, recipe=recipe)) for index, path in enumerate(paths)]
    said = [f"{path}: {note}." for path, note in notes if note]
    for sentence in said:
        remark(sentence)
    return said


def remark(sentence: str) -> None:
    """Something the user should know, on stderr."""
    say(f"sfumato: {sentence}", error=True)
