"""Where the files of a model folder may lie."""

from pathlib import Path

from sfumato.errors import BadInput
from sfumato.files import printable
from sfumato.paths import inside
from sfumato.regular_files import check_regular

GIVE = "get the folder again"


def model_file(path: Path, root: Path) -> Path:
    """The path of a file of a model folder, links followed.

    Links may lead from one place of the folder to another, and in the cache of the Hugging Face hub from a snapshot of
    a repository to that repository's blobs, which is how the hub's own library lays it out. All others are refused: a
    folder that came from elsewhere would open files of the user's that its maker only guessed.

    Args:
        path: the file, in `root` or in a folder of it.
        root: the model folder that the user named; it may itself be a link.

    Raises:
        BadInput: a link out of the folder, or no regular file.
    """
    target = _resolved(path)
    if not inside(root, str(target)) and target.parent != _blobs(root):
        raise BadInput(f"{printable(path)} is a link that leads out of {printable(root)}: put the file itself there.")
    check_regular(path, GIVE)
    return target


def has(path: Path) -> bool:
    """Whether there is anything of that name, a broken link too; `model_file` says what is wrong with it."""
    return path.is_symlink() or path.exists()


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:  # a loop of links
        raise BadInput(f"{printable(path)} is a link that leads nowhere: {GIVE}.") from error


def _blobs(root: Path) -> Path | None:
    """Of .../models--org--name/snapshots/REVISION or a folder in it, .../models--org--name/blobs."""
    home = _resolved(root)
    snapshots = next((place for place in home.parents if place.name == "snapshots"), None)
    if snapshots is None or not snapshots.parent.name.startswith("models--"):
        return None
    return snapshots.parent / "blobs"
