"""The source pictures of edits, by size: inverted, or planned to be."""

from dataclasses import dataclass, field
from typing import Any

from sfumato.api.group import Group
from sfumato.api.loaded import Loaded
from sfumato.api.report import made_with, parameters
from sfumato.images import Picture
from sfumato.methods.params import Params
from sfumato.methods.registry import Method


@dataclass(frozen=True, eq=False)
class Sources:
    """Pictures and how they are inverted.

    Attributes:
        model: what inverts the pictures and edits them.
        method: the method that they are inverted for.
        params: its parameters; those of the edit are defaults that an edit may override.
        groups: the pictures by size, each group with its inversion.
        report: seconds, network_evaluations, parameters, pictures.
        batch: most rows in one call of the network, as the user said.
        errors: largest latent error of the reconstruction by picture, as far as it has been measured.
    """

    model: Loaded
    method: Method
    params: Params
    groups: list[Group]
    report: dict[str, Any]
    batch: int | None = None
    errors: dict[int, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return sum(len(group.indices) for group in self.groups)

    @property
    def kind(self) -> str:
        """Name of the inversion."""
        return self.groups[0].inversion.kind

    @property
    def pictures(self) -> list[Picture]:
        """The pictures in the user's order."""
        placed = {i: p for group in self.groups for i, p in zip(group.indices, group.pictures, strict=True)}
        return [placed[i] for i in range(len(self))]

    @property
    def prompts(self) -> list[str]:
        """The source prompts in the user's order."""
        placed = {i: p for group in self.groups for i, p in zip(group.indices, group.inversion.prompts, strict=True)}
        return [placed[i] for i in range(len(self))]

    @property
    def latent_error(self) -> float | None:
        """Largest difference between replayed and encoded x_0 over all pictures; None until it has been measured."""
        return max(self.errors.values()) if len(self.errors) == len(self) else None

    def recipe(self, index: int) -> dict[str, Any]:
        """Everything needed to invert one of the pictures again, as JSON values."""
        group = next(each for each in self.groups if index in each.indices)
        row = group.indices.index(index)
        return {
            **made_with(self.model.network),
            "method": self.method.name,
            "source_prompt": group.inversion.prompts[row],
            "seed": group.inversion.seeds[row],
            **parameters(self.params),
        }
