"""A run's folder belongs to one program at a time: two would mix their checkpoints."""

from pathlib import Path
from weakref import WeakValueDictionary

from sfumato.errors import BadInput
from sfumato.files import printable
from sfumato.partial_files import hold
from sfumato.train.processes import is_first

NAME = ".lock"


class Lock:
    """The lock on a folder, from its making until the last reference to it, or the process, is gone.

    It is the mark of `sfumato.files.hold` on the folder's file `.lock`, which stays behind and means nothing by itself.
    File systems without locks are not guarded.
    """

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = open(folder / NAME, "ab")  # noqa: SIM115 - held open as long as this object lives
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


#: The locks of this process, which may open a run of its own again.
_HELD: "WeakValueDictionary[Path, Lock]" = WeakValueDictionary()


def lock(folder: Path) -> Lock | None:
    """The lock on the run's `folder`, which is made where there is none; None in all processes but the first.

    Raises:
        BadInput: another program holds it, or the folder cannot be written.
    """
    if not is_first():
        return None
    found = _HELD.get(folder.resolve())
    if found is None:
        _HELD[folder.resolve()] = found = Lock(folder)
    return found
