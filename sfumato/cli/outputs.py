"""Output files of commands: their names, and checks before any work."""

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
    """Add the output image."""
    several = "output image; several results become out-0.png, out-1.png, ..."
    parser.add_argument("-o", "--out", required=True, type=Path, metavar="OUT", help=several)


def output_paths(out: Path, count: int, *, size: tuple[int, int] | None = None, keep: Sequence[str] = ()) -> list[Path]:
    """The path of every result: `out` itself, or out-0.png, out-1.png, ... for several results.

    Args:
        out: path that the user gave.
        count: number of results.
        size: (width, height) of the results in pixels, if known.
        keep: files that must not be overwritten: the inputs of the command.

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
    """Raises BadInput if `path` is one of the inputs, also under another name or through a link."""
    for each in inputs:
        if path.exists() and os.path.exists(each) and os.path.samefile(path, each):
            raise BadInput(f"{path} is an input of this command and would be overwritten: choose another output.")


def refuse_links_out(folder: Path, paths: Sequence[Path]) -> None:
    """Refuse paths in a folder of unknown origin that a symbolic link leads out of the folder.

    Raises:
        BadInput: names the first such path.
    """
    if folder.is_dir():
        check_inside(folder, *(str(path.relative_to(folder)) for path in paths))


def save_all(result: "Result", paths: Sequence[Path], *, recipe: bool) -> list[str]:
    """Write every image; return remarks on what a file format cannot represent, also printed on stderr."""
    notes = [(path, result.save(path, index, recipe=recipe)) for index, path in enumerate(paths)]
    remarks = [f"{path}: {note}." for path, note in notes if note]
    for sentence in remarks:
        remark(sentence)
    return remarks


def remark(sentence: str) -> None:
    """Print a remark for the user on stderr."""
    say(f"sfumato: {sentence}", error=True)
