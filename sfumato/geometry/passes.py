"""What products with the Jacobian cost, on the account of each map and for whoever counts them all."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

_OPEN: ContextVar[tuple["Passes", ...]] = ContextVar("passes", default=())


@dataclass
class Passes:
    """Rows that went through the encoder half: a product with one vector is one row, like an evaluation.

    Attributes:
        forward: evaluations of f, those included that products need.
        jvp: products J v.
        vjp: products J^T u.
    """

    forward: int = 0
    jvp: int = 0
    vjp: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.forward + self.jvp + self.vjp

    @property
    def products(self) -> dict[str, int]:
        """The products by the mode of differentiation, for reports, which count evaluations already."""
        return {"forward_mode": self.jvp, "reverse_mode": self.vjp}

    def __add__(self, other: "Passes") -> "Passes":
        return Passes(self.forward + other.forward, self.jvp + other.jvp, self.vjp + other.vjp)

    def __sub__(self, other: "Passes") -> "Passes":
        return Passes(self.forward - other.forward, self.jvp - other.jvp, self.vjp - other.vjp)

    def spend(self, *, forward: int = 0, jvp: int = 0, vjp: int = 0) -> None:
        """Add to this account, and to every count that is open."""
        for account in (self, *_OPEN.get()):
            account.forward += forward
            account.jvp += jvp
            account.vjp += vjp


@contextmanager
def counting_passes() -> Iterator[Passes]:
    """Count, from zero, what all maps spend within a `with` block."""
    passes = Passes()
    token = _OPEN.set((*_OPEN.get(), passes))
    try:
        yield passes
    finally:
        _OPEN.reset(token)
