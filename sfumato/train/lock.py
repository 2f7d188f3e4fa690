"""Lock on the folder of a training run: two programs that train in one folder would mix their checkpoints."""

from pathlib import Path
from weakref import WeakValueDictionary

from sfumato.errors import BadInput
from sfumato.files import printable
from sfumato.partial_files import hold
from sfumato.train.processes import is_first

NAME = ".lock"


class Lock:
    """Lock on a folder, held until the object is garbage collected or the process ends.

    `sfumato.partial_files.hold` locks the file `.lock` in the folder. The file is not removed when the lock is
    released. On file systems without locks, nothing is locked.

    Args:
        folder: folder of the run; created if missing.

    Raises:
        BadInput: another process holds the lock, or the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = open(folder / NAME, "ab")  # noqa: SIM115 - stays open as long as this object exists
        except OSError as error:
            raise BadInput(
                f"{printable(folder)} cannot be written ({error.strerror}): choose another folder for the run."
            ) from error
        try:
            hold(self._file.fileno())
        except BlockingIOError as error:
            self._file.close()
            raise BadInput(
                f"another process is training in {printable(folder)}: wait for it, or give this run its own folder."
            ) from error


#: The locks of this process by folder: a process may open the same run more than once.
_HELD: "WeakValueDictionary[Path, Lock]" = WeakValueDictionary()


def lock(folder: Path) -> Lock | None:
    """Lock the folder of a run.

    Args:
        folder: folder of the run; created if missing.

    Returns:
        The lock, shared by all callers in this process; None in every distributed process except rank 0.

    Raises:
        BadInput: another process holds the lock, or the folder cannot be written.
    """
    if not is_first():
        return None
    found = _HELD.get(folder.resolve())
    if found is None:
        _HELD[folder.resolve()] = found = Lock(folder)
    return found
