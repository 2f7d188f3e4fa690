"""Names that come out of files, such as tables, manifests, mappings and archives: they stay inside their folder."""

from pathlib import Path

from sfumato.errors import BadInput
from sfumato.files import printable


def inside(folder: Path, name: object) -> bool:
    """Whether `name`, as a file says it, leads to a place inside `folder` or to itself, links followed."""
    if not isinstance(name, str):
        return False
    try:
        root = folder.resolve()
        place = (root / name).resolve()
    except (OSError, ValueError, RuntimeError):  # a null byte, a loop of links, a name that the system cannot have
        return False
    return place.is_relative_to(root)


def check_inside(folder: Path, *names: str) -> None:
    """Refuse names that lead out of a folder, by themselves or by a link.

    Raises:
        BadInput: with the first of them.
    """
    for name in names:
        if not inside(folder, name):
            raise BadInput(
                f"{printable(folder / name)} leads out of {printable(folder)}, by its name or by a link: remove what "
                "leads there."
            )
