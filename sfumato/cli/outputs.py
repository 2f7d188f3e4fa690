"""Output files of commands: their names, and checks before any work."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sfumato.cli.parser import CommandParser
from sfumato.cli.report import say
from sfumato.errors import BadInput
from sfumato.files import check_name, printable
from sfumato.paths import check_inside

if TYPE_CHECKING:
    from sfumato.api import Result


def add_out(parser: CommandParser) -> None:
    """Add the output image."""
    several = "output image; several results become out-0.png, out-1.png, ..."
    parser.add_argument("-o", "--out", required=True, type=Path, metavar="OUT", help=several)


def add_no_recipe(parser: CommandParser) -> None:
    """Add the flag that leaves the recipe out of the images."""
    parser.add_argument("--no-recipe", action="store_true", help="do not save the settings (recipe) in the file")


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
    from sfumato.api.result import numbered
    from sfumato.images import check_output

    paths = numbered(out, count)
    for path in paths:
        check_output(path, size)
        refuse_inputs(path, keep)
    return paths


def paths_in(folder: Path, images: Sequence[str], count: int, *, keep: Sequence[str] = ()) -> list[Path]:
    """The path of every result in a folder: NAME.png for every image, or NAME-0.png, ... for several of one image.

    Args:
        folder: folder that the user gave; it may not exist yet.
        images: the images, one for each result or one for all.
        count: number of results.
        keep: files that must not be overwritten: the inputs of the command.

    Raises:
        BadInput: two images have the same name, or a path cannot be written or is one of the inputs.
    """
    from sfumato.images import check_output

    stems = [Path(image).stem for image in images]
    for n, stem in enumerate(stems):
        if stem in stems[:n]:
            other = images[stems.index(stem)]
            raise BadInput(
                f"{other} and {images[n]} would both become {folder / stem}.png: edit one of them separately."
            )
    if count > len(images):
        stems = [f"{stems[0]}-{n}" for n in range(count)]
    paths = [folder / f"{stem}.png" for stem in stems]
    check_folder(folder, [path.name for path in paths])
    for path in paths:
        if folder.is_dir():
            check_output(path)
        refuse_inputs(path, keep)
    return paths


def check_folder(folder: Path, names: Sequence[str] = ()) -> None:
    """Check, before any work, that a folder exists or can be created, and that files can be written to it.

    Args:
        folder: the folder; it and its parents may not exist yet.
        names: names of the files.

    Raises:
        BadInput: the path is a file, the folder is not writable, or a name is too long.
    """
    there, missing = folder.absolute(), list(names)
    while not os.path.lexists(there):
        missing.append(there.name)
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise BadInput(f"{printable(folder)} cannot be created or written to: choose another folder.")
    for name in missing:
        try:
            check_name(there / name)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise BadInput(
                f"{printable(name)} cannot be the name of a file or folder ({why}): choose another."
            ) from error


def refuse_inputs(path: Path, inputs: Sequence[str]) -> None:
    """Raise BadInput if `path` is one of the inputs, also under another name or through a link."""
    for each in inputs:
        if path.exists() and os.path.exists(each) and os.path.samefile(path, each):
            raise BadInput(f"{path} is an input of this command and would be overwritten: choose another output.")


def refuse_links_out(folder: Path, paths: Sequence[Path]) -> None:
    """Check that no symbolic link in an untrusted folder leads a path out of the folder.

    Raises:
        BadInput: a path leads out of the folder; the message names the first one.
    """
    if folder.is_dir():
        check_inside(folder, *(str(path.relative_to(folder)) for path in paths))


def save_all(result: "Result", paths: Sequence[Path], *, recipe: bool, keep_gps: bool = False) -> list[str]:
    """Write every image; missing folders are created.

    Returns:
        Remarks on what a file format cannot represent, which are also printed on stderr.
    """
    for folder in dict.fromkeys(path.parent for path in paths):
        folder.mkdir(parents=True, exist_ok=True)
    notes = [(path, result.save(path, index, recipe=recipe, keep_gps=keep_gps)) for index, path in enumerate(paths)]
    remarks = [f"{path}: {note}." for path, note in notes if note]
    for sentence in remarks:
        remark(sentence)
    return remarks


def remark(sentence: str) -> None:
    """Print a remark for the user on stderr."""
    say(f"sfumato: {sentence}", error=True)


def remarks(sentences: Sequence[str]) -> list[str]:
    """Print several remarks; return them."""
    for sentence in sentences:
        remark(sentence)
    return list(sentences)
