"""Contents of files that are kept in memory while the files are unchanged.

A command checks the files of a model before it imports torch, and the model is then loaded with the same contents.
"""

import os
import time
from typing import Generic, TypeAlias, TypeVar

from sfumato.files import Named

Content = TypeVar("Content")
Version: TypeAlias = tuple[int, ...]
SETTLED = 3.0
"""Seconds since the last change of a file after which its content is kept. The times of files have a resolution of
milliseconds (on FAT two seconds), so that a second change right after the first may not change them."""


def version_of(path: Named) -> Version | None:
    """Identity, size and times of a file, which differ after a change; None if it is too new or cannot be examined."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None  # reading it raises BadInput
    if time.time() - max(found.st_mtime, found.st_ctime) < SETTLED:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


class KeptFiles(Generic[Content]):
    """Contents of a limited number of files; the oldest ones are dropped.

    Args:
        most: number of files.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._contents: dict[Version, Content] = {}

    def __len__(self) -> int:
        return len(self._contents)

    def find(self, version: Version | None) -> Content | None:
        """The content of the file with this version; None if it is not kept."""
        return None if version is None else self._contents.get(version)

    def keep(self, version: Version | None, content: Content) -> None:
        """Keep the content of a file, which was read after `version` was determined; not if that is None."""
        if version is None:
            return
        self._contents[version] = content
        for oldest in list(self._contents)[: -self._most]:
            self._contents.pop(oldest, None)
