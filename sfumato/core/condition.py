"""The condition of a network: text embeddings and other inputs, one row per latent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from sfumato.core.prompt import Prompt
from sfumato.errors import BadInput

Labels: TypeAlias = Int64[Tensor, " rows"] | Float[Tensor, " rows"] | Float[Tensor, "rows d"]
RowIndex: TypeAlias = int | slice | Sequence[int] | Tensor


@dataclass(frozen=True, eq=False)
class Condition:
    """All inputs of a network except x_t and t; inputs that the network does not have are None.

    Attributes:
        tokens: text tokens for cross-attention, [rows, n, d].
        pooled: one text vector per row (SDXL), [rows, p].
        added: SDXL's time_ids: original size, crop and target size in pixels, (h, w, top, left, h, w), [rows, 6].
        maps: channels concatenated to the latent (inpainting: mask and masked_image_latents), [rows, c, h, w].
        labels: diffusers' class_labels: indices or numbers, [rows], or vectors, [rows, d].
        token_mask: diffusers' encoder_attention_mask, True for tokens that cross-attention attends to, [rows, n].
        weight_changes: dW [out, in] by the name of a linear layer of the network: in evaluations under this condition
            the layer computes (W + dW) x + b, in all rows. {} for none.
        prompts: the tokenised prompts, one per row, for looking up the tokens of a word; () if not known.
        names: names of the conditions that `join` concatenated, in order, each with rows / len(names) rows; () for a
            single condition.
        rows: number of rows; inferred from the other fields if one of them is given.

    Raises:
        BadInput: the parts have different numbers of rows, or the number of rows cannot be inferred.
    """

    tokens: Float[Tensor, "rows n d"] | None = None
    pooled: Float[Tensor, "rows p"] | None = None
    added: Float[Tensor, "rows ids"] | None = None
    maps: Float[Tensor, "rows c h w"] | None = None
    labels: Labels | None = None
    token_mask: Bool[Tensor, "rows n"] | None = None
    weight_changes: Mapping[str, Float[Tensor, "out in"]] = field(default_factory=dict)
    prompts: tuple[Prompt, ...] = ()
    names: tuple[str, ...] = ()
    rows: int = 0

    def __post_init__(self) -> None:
        stated = {count for count in (len(self.prompts), self.rows) if count}
        counts = {part.shape[0] for part in self._parts().values()} | stated
        if len(counts) != 1:
            raise BadInput(f"All parts of a condition must have the same number of rows, not {sorted(counts)}.")
        object.__setattr__(self, "rows", counts.pop())

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, rows: RowIndex) -> "Condition":
        """Select rows, in the given order; an int returns a condition of one row."""
        return self._chosen(torch.arange(self.rows)[rows].reshape(-1))

    def repeat(self, times: int) -> "Condition":
        """Repeat all rows `times` times, one copy after the other (like `Tensor.repeat` along the batch)."""
        return self._chosen(torch.arange(self.rows).repeat(times))

    def to(self, device: torch.device | str) -> "Condition":
        """Move all tensors to a device."""
        changes = {name: change.to(device) for name, change in self.weight_changes.items()}
        return replace(self, **{name: part.to(device) for name, part in self._parts().items()}, weight_changes=changes)

    @staticmethod
    def cat(conditions: Sequence["Condition"]) -> "Condition":
        """Concatenate the rows of several conditions.

        Raises:
            BadInput: the conditions do not have the same parts or changes of weights, or the sizes of a part differ.
        """
        parts = [condition._parts() for condition in conditions]
        shapes = [{name: part.shape[1:] for name, part in each.items()} for each in parts]
        if not parts or any(other != shapes[0] for other in shapes):
            raise BadInput("Conditions can be concatenated only if they have the same parts, of the same sizes.")
        changes = conditions[0].weight_changes
        if not all(_same(changes, each.weight_changes) for each in conditions[1:]):
            raise BadInput("Conditions with different changes of the network's weights cannot be concatenated.")
        joined = {name: torch.cat([each[name] for each in parts]) for name in parts[0]}
        prompts = tuple(prompt for condition in conditions for prompt in condition.prompts)
        rows = sum(len(condition) for condition in conditions)
        known = prompts if len(prompts) == rows else ()
        return Condition(**joined, weight_changes=changes, prompts=known, rows=rows)

    @staticmethod
    def join(conditions: Mapping[str, "Condition"]) -> "Condition":
        """Concatenate conditions with equal numbers of rows, as `cat`, and store their names (see `rows.Rows`)."""
        return replace(Condition.cat(list(conditions.values())), names=tuple(conditions))

    def _parts(self) -> dict[str, Tensor]:
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}

    def _chosen(self, index: Tensor) -> "Condition":
        parts = {name: part[index.to(part.device)] for name, part in self._parts().items()}
        prompts = tuple(self.prompts[row] for row in index.tolist()) if self.prompts else ()
        return replace(self, rows=len(index), prompts=prompts, names=(), **parts)


def _same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether two conditions have the same tensors as changes of weights."""
    return one.keys() == other.keys() and all(one[name] is other[name] for name in one)
