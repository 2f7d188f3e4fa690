"""Layout of a batch: which rows belong to which condition."""

from dataclasses import dataclass

from sfumato.core.condition import Condition

TARGET = "target"
"""Name of the condition of the run: the prompt of the edited or generated image."""
NEGATIVE = "negative"
"""Name of the negative condition of classifier-free guidance."""
SOURCE = "source"
"""Name of the condition in evaluations of the source: by default the source prompt of the inversion."""


@dataclass(frozen=True)
class Rows:
    """Layout of a batch: row k * images + j is image j under the condition names[k].

    Attributes:
        names: names of the conditions in the batch, in order.
        images: number of images.
    """

    names: tuple[str, ...]
    images: int

    @staticmethod
    def of_evaluation(condition: Condition | None, count: int) -> "Rows":
        """Return the layout of a batch of `count` latents under a condition: a single one or from `Condition.join`."""
        names = (condition.names if condition is not None else ()) or (TARGET,)
        return Rows(names, count // len(names))

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def of(self, name: str) -> slice:
        """Return the slice of the rows of one condition.

        Raises:
            KeyError: the condition is not in the batch.
        """
        if name not in self.names:
            raise KeyError(f"{name!r} is not among the conditions {', '.join(self.names)} of this evaluation")
        first = self.names.index(name) * self.images
        return slice(first, first + self.images)
