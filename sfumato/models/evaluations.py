"""How often a network was asked, the honest cost of a method."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Count:
    """Evaluations of one network.

    Attributes:
        calls: forward passes.
        samples: rows of all forward passes together; a guidance pair in one call is one call and two samples.
    """

    calls: int = 0
    samples: int = 0


@dataclass
class Evaluations:
    """All evaluations since the model was loaded, and those of every open scope."""

    total: Count = field(default_factory=Count)
    scopes: list[Count] = field(default_factory=list)

    def add(self, samples: int) -> None:
        """Note one forward pass of `samples` rows."""
        for count in (self.total, *self.scopes):
            count.calls += 1
            count.samples += samples

    @contextmanager
    def scope(self) -> Iterator[Count]:
        """Count from zero within a `with` block; the count stays readable afterwards. Scopes may be nested."""
        count = Count()
        self.scopes.append(count)
        try:
            yield count
        finally:
            # by identity: two counts with equal numbers are equal dataclasses
            self.scopes[:] = [other for other in self.scopes if other is not count]
