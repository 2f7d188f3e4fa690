"""The umask of the process, and the mode of a file."""

import os
import stat
from contextlib import contextmanager


@contextmanager
def umask(value):
    before = os.umask(value)
    try:
        yield
    finally:
        os.umask(before)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)
