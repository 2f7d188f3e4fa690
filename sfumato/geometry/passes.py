"""Counters for evaluations of f and products with its Jacobian, i.e. passes through the encoder half."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

_OPEN: ContextVar[tuple["Passes", ...]] = ContextVar("passes", default=())


@dataclass
class Passes:
    """Number of rows evaluated by the encoder half; an evaluation or a product with one vector counts as one row.

    Attributes:
        forward: evaluations of f, including those that products need.
        jvp: Jacobian-vector products J v.
        vjp: vector-Jacobian products J^T u.
    """

    forward: int = 0
    jvp: int = 0
    vjp: int = 0

    @property
    def total(self) -> int:
        """Sum of all counts."""
        return self.forward + self.jvp + self.vjp

    @property
    def products(self) -> dict[str, int]:
        """The products by mode of differentiation, for reports; evaluations are reported separately."""
        return {"forward_mode": self.jvp, "reverse_mode": self.vjp}

    def __add__(self, other: "Passes") -> "Passes":
        return Passes(self.forward + other.forward, self.jvp + other.jvp, self.vjp + other.vjp)

    def __sub__(self, other: "Passes") -> "Passes":
        return Passes(self.forward - other.forward, self.jvp - other.jvp, self.vjp - other.vjp)

    def spend(self, *, forward: int = 0, jvp: int = 0, vjp: int = 0) -> None:
        """Add to these counters and to those of all active `counting_passes` blocks."""
        for account in (self, *_OPEN.get()):
            account.forward += forward
            account.jvp += jvp
            account.vjp += vjp


@contextmanager
def counting_passes() -> Iterator[Passes]:
    """Context manager that counts the passes of all maps within its block, starting at zero."""
    passes = Passes()
    token = _OPEN.set((*_OPEN.get(), passes))
    try:
        yield passes
    finally:
        _OPEN.reset(token)
