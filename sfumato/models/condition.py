"""What a network is conditioned on, one row per latent."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sfumato.errors import BadInput

Rows: TypeAlias = int | slice | Sequence[int] | Tensor


@dataclass(frozen=True, eq=False)
class Condition:
    """Everything beside x_t and t that a network takes; what a network does not take is None.

    Attributes:
        tokens: text tokens for cross-attention, [rows, n, d].
        pooled: one text vector per row (SDXL), [rows, p].
        added: original size, crop and target size in pixels as (h, w, top, left, h, w) (SDXL), [rows, 6].
        maps: channels concatenated to the latent, [rows, c, h, w].
        token_mask: True for tokens that cross-attention may see, [rows, n].
        rows: number of rows; follows from the tensors where there are any.

    Raises:
        BadInput: the parts have different numbers of rows, or no part tells how many there are.
    """

    tokens: Float[Tensor, "rows n d"] | None = None
    pooled: Float[Tensor, "rows p"] | None = None
    added: Float[Tensor, "rows ids"] | None = None
    maps: Float[Tensor, "rows c h w"] | None = None
    token_mask: Bool[Tensor, "rows n"] | None = None
    rows: int = 0

    def __post_init__(self) -> None:
        counts = {part.shape[0] for part in self._parts().values()} | ({self.rows} if self.rows else set())
        if len(counts) != 1:
            raise BadInput(f"The parts of a condition must have one number of rows, not {sorted(counts)}.")
        object.__setattr__(self, "rows", counts.pop())

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, rows: Rows) -> "Condition":
        """The given rows, in the given order; an int gives a condition of one row."""
        index = torch.arange(self.rows)[rows].reshape(-1)
        return self._each(lambda part: part[index.to(part.device)], len(index))

    def repeat(self, times: int) -> "Condition":
        """All rows `times` times, one copy after the other (like `Tensor.repeat` along the batch)."""
        return self._each(lambda part: part.repeat(times, *(1 for _ in part.shape[1:])), self.rows * times)

    def to(self, device: torch.device | str) -> "Condition":
        """The same condition on another device."""
        return self._each(lambda part: part.to(device), self.rows)

    @staticmethod
    def cat(conditions: Sequence["Condition"]) -> "Condition":
        """The rows of several conditions one below the other.

        Raises:
            BadInput: they do not have the same parts, or parts of different sizes.
        """
        parts = [condition._parts() for condition in conditions]
        shapes = [{name: part.shape[1:] for name, part in each.items()} for each in parts]
        if not parts or any(other != shapes[0] for other in shapes):
            raise BadInput("Only conditions with the same parts, of the same sizes, can be joined.")
        joined = {name: torch.cat([each[name] for each in parts]) for name in parts[0]}
        return Condition(**joined, rows=sum(len(condition) for condition in conditions))

    def _parts(self) -> dict[str, Tensor]:
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "rows"}
        return {name: value for name, value in values.items() if value is not None}

    def _each(self, change: Callable[[Tensor], Tensor], rows: int) -> "Condition":
        return replace(self, rows=rows, **{name: change(part) for name, part in self._parts().items()})
