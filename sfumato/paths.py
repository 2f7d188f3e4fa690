"""Checks of paths: names read from files (tables, manifests, archives) stay inside their folder; types; hub ids."""

import os
import re
from pathlib import Path

from sfumato.errors import BadInput
from sfumato.files import printable

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def path_text(path: object, what: str) -> str:
    """A path as text.

    Args:
        path: what a caller gave as a path.
        what: its description as the beginning of a sentence, with the allowed values, such as "A model must be a path".

    Raises:
        BadInput: this is neither a str nor a path object, or is empty.
    """
    text = os.fspath(path) if isinstance(path, os.PathLike) else path
    if isinstance(text, str) and text.strip():
        return text
    raise BadInput(f"{what}, not {path!r:.80}.")


def inside(folder: Path, name: object) -> bool:
    """Whether `name`, as read from a file, is `folder` or a path inside it once symbolic links are resolved."""
    if not isinstance(name, str):
        return False
    try:
        root = folder.resolve()
        place = (root / name).resolve()
    except (OSError, ValueError, RuntimeError):  # a null byte, a loop of links, or an invalid name
        return False
    return place.is_relative_to(root)


def check_inside(folder: Path, *names: str) -> None:
    """Check that no name leads out of a folder, directly or through a symbolic link.

    Raises:
        BadInput: a name leads out of the folder; the message contains the first such name.
    """
    for name in names:
        if not inside(folder, name):
            raise BadInput(
                f"{printable(folder / name)} leads out of {printable(folder)}, by its name or through a symbolic "
                "link: remove it."
            )


def is_hub_id(name: str) -> bool:
    """Whether `name` has the form "org/name"."""
    return _HUB_ID.fullmatch(name) is not None
