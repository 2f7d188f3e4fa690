"""The image files in a folder and its subfolders, also those that symbolic links name."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from sfumato.errors import BadInput
from sfumato.files import printable
from sfumato.regular_files import reason


def find_images(root: Path, suffixes: Sequence[str]) -> tuple[list[Path], dict[Path, str]]:
    """Find the files with one of these suffixes; names that begin with a dot are left out.

    Returns:
        The files; and the subfolders that cannot be listed, each with a sentence that says why.

    Raises:
        BadInput: the folder itself cannot be listed.
    """
    errors: list[OSError] = []
    found = [
        place / name
        for place, names in _folders(root, errors.append)
        for name in sorted(names)
        if name.lower().endswith(tuple(suffixes)) and not name.startswith(".")
    ]
    problems = {
        Path(error.filename): f"{printable(error.filename)} cannot be listed ({reason(error)}): make it readable."
        for error in errors
    }
    if root in problems:
        raise BadInput(problems[root])
    return found, problems


def _folders(root: Path, failed: Callable[[OSError], None]) -> Iterator[tuple[Path, list[str]]]:
    """The folder and its subfolders with the names of their files.

    Each folder is visited once. Links are followed at the end, so that a folder in the tree has its own path.
    """
    seen: set[tuple[int, int]] = set()
    waiting = deque([root])
    while waiting:
        for place, folders, names in os.walk(waiting.popleft(), onerror=failed):
            about = os.stat(place)
            if (about.st_dev, about.st_ino) in seen:
                folders.clear()
                continue
            seen.add((about.st_dev, about.st_ino))
            folders[:] = sorted(each for each in folders if not each.startswith("."))
            waiting += [Path(place, each) for each in folders if os.path.islink(Path(place, each))]
            yield Path(place), names
