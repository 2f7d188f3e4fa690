"""Which rows of one evaluation of a network belong to which condition."""

from dataclasses import dataclass

from sfumato.core.condition import Condition

TARGET = "target"
"""Name of the condition that a run is under: the prompt of an edit, or of a generated picture."""
NEGATIVE = "negative"
"""Name of the condition that classifier-free guidance moves away from."""
SOURCE = "source"
"""Name of the condition that an inversion was made under, where the source is evaluated beside the target."""


@dataclass(frozen=True)
class Rows:
    """Row k * images + j is image j under the condition names[k].

    Attributes:
        names: of the conditions that go through the network in one call.
        images: how many images there are.
    """

    names: tuple[str, ...]
    images: int

    @staticmethod
    def of_evaluation(condition: Condition | None, count: int) -> "Rows":
        """The rows of an evaluation of `count` latents under a condition, joined or not."""
        names = (condition.names if condition is not None else ()) or (TARGET,)
        return Rows(names, count // len(names))

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def of(self, name: str) -> slice:
        """The rows of one condition.

        Raises:
            KeyError: it was not evaluated.
        """
        if name not in self.names:
            raise KeyError(f"{name!r} is not among the conditions {', '.join(self.names)} of this evaluation")
        first = self.names.index(name) * self.images
        return slice(first, first + self.images)
