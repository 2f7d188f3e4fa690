"""How often a network was asked, the honest cost of a method."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class Count:
    """Evaluations of one network.

    Attributes:
        calls: forward passes.
        samples: rows of all forward passes together; a guidance pair in one call is one call and two samples.
    """

    calls: int = 0
    samples: int = 0

    def add(self, samples: int) -> None:
        """Note one forward pass of `samples` rows."""
        self.calls += 1
        self.samples += samples


class _Open(threading.local):
    """The open scopes of each thread."""

    def __init__(self) -> None:
        self.scopes: list[Count] = []


class Evaluations:
    """All evaluations since the model was loaded, and those of every open scope of the thread that opened it.

    Attributes:
        total: of all threads.
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
        """Count from zero what this thread evaluates within a `with` block.

        The count stays readable afterwards. Scopes may be nested.
        """
        count, scopes = Count(), self.scopes
        scopes.append(count)
        try:
            yield count
        finally:
            # by identity: two counts with equal numbers are equal dataclasses
            scopes[:] = [other for other in scopes if other is not count]
