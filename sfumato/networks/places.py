"""Allowed locations of the files of a model folder."""

from pathlib import Path

from sfumato.errors import BadInput
from sfumato.files import printable
from sfumato.paths import inside
from sfumato.regular_files import check_regular

GIVE = "download or export the folder again"


def model_file(path: Path, root: Path) -> Path:
    """Resolve the path of a file in a model folder, and check where links lead.

    Links may lead to another place in the folder. In the cache of the Hugging Face hub they may also lead from a
    snapshot of a repository to its blobs, which is the layout of the hub's own library. All other links are refused,
    because they would let an untrusted folder open other files of the user.

    Args:
        path: the file, in `root` or in one of its folders.
        root: the model folder that the user named; it may be a link itself.

    Raises:
        BadInput: a link leads out of the folder, or this is not a regular file.
    """
    target = _resolved(path)
    if not inside(root, str(target)) and target.parent != _blobs(root):
        raise BadInput(
            f"{printable(path)} is a symbolic link to a place outside {printable(root)}: put the file itself there."
        )
    check_regular(path, GIVE)
    return target


def has(path: Path) -> bool:
    """Whether the path exists, also as a broken link, for which `model_file` raises BadInput."""
    return path.is_symlink() or path.exists()


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:  # circular links
        raise BadInput(f"{printable(path)} is a broken symbolic link: {GIVE}.") from error


def _blobs(root: Path) -> Path | None:
    """The blobs of a folder in the hub's cache: .../models--org--name/blobs for .../models--org--name/snapshots/..."""
    home = _resolved(root)
    snapshots = next((place for place in home.parents if place.name == "snapshots"), None)
    if snapshots is None or not snapshots.parent.name.startswith("models--"):
        return None
    return snapshots.parent / "blobs"
