"""Counting the evaluations of a network, the cost of a method that does not depend on the hardware."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class Count:
    """Number of evaluations of one network.

    Attributes:
        calls: number of forward passes.
        samples: number of rows of all forward passes; classifier-free guidance of one image is one call of two samples.
    """

    calls: int = 0
    samples: int = 0

    def add(self, samples: int) -> None:
        """Note one forward pass of `samples` rows."""
        self.calls += 1
        self.samples += samples


class _Open(threading.local):
    """The open scopes of the current thread."""

    def __init__(self) -> None:
        self.scopes: list[Count] = []


class Evaluations:
    """Counts all evaluations since the model was loaded, and those in the open scopes of each thread.

    Attributes:
        total: evaluations of all threads.
    """

    def __init__(self) -> None:
        self.total = Count()
        self._adding = threading.Lock()
        self._open = _Open()

    @property
    def scopes(self) -> list[Count]:
        """The open scopes of this thread."""
        return self._open.scopes

    def add(self, samples: int) -> None:
        """Note one forward pass of `samples` rows."""
        with self._adding:
            self.total.add(samples)
        for count in self.scopes:
            count.add(samples)

    @contextmanager
    def scope(self) -> Iterator[Count]:
        """Count the evaluations of this thread in a `with` block, from zero.

        The count stays readable afterwards. Scopes may be nested.
        """
        count, scopes = Count(), self.scopes
        scopes.append(count)
        try:
            yield count
        finally:
            # compare by identity: two counts with equal numbers are equal dataclasses
            scopes[:] = [other for other in scopes if other is not count]
