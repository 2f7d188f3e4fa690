"""The source images of edits, grouped by size, with computed or planned inversions."""

from dataclasses import dataclass, field
from typing import Any

from sfumato.api.extra import described_extra
from sfumato.api.group import Group
from sfumato.api.loaded import Loaded
from sfumato.api.report import file_name, made_with, recipe_parameters
from sfumato.core.condition import Condition
from sfumato.editing.registry import Method
from sfumato.images import LoadedImage
from sfumato.options.params import Params


@dataclass(frozen=True, eq=False)
class Sources:
    """Images with their inversions; `len(sources)` is the number of images.

    Attributes:
        model: the model that inverts and edits the images.
        method: the method that the images are inverted for.
        params: parameters of the method; an edit may override those of the stage "edit".
        groups: the images grouped by size, each group with its inversion.
        report: seconds, network_evaluations, parameters, images (name, size and note of each).
        batch: maximum number of rows per forward pass; None for the default.
        errors: maximum absolute error of the reconstructed x_0 by index of the image, for all images for which it has
            been measured.
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
        """Name of the inversion, e.g. "edit-friendly"."""
        return self.groups[0].inversion.kind

    @property
    def images(self) -> list[LoadedImage]:
        """The images as they were read, in the user's order."""
        return [image.full for image in self.edited_images]

    @property
    def edited_images(self) -> list[LoadedImage]:
        """The images at the sizes at which they are edited, in the user's order."""
        placed = {i: image for group in self.groups for i, image in zip(group.indices, group.images, strict=True)}
        return [placed[i] for i in range(len(self))]

    @property
    def prompts(self) -> list[str]:
        """The source prompts in the user's order."""
        placed = {i: p for group in self.groups for i, p in zip(group.indices, group.inversion.prompts, strict=True)}
        return [placed[i] for i in range(len(self))]

    @property
    def extra(self) -> Condition:
        """Maps, labels and tokens of the images (`sfumato.api.extra`) in the user's order, one row per image."""
        indices = [index for group in self.groups for index in group.indices]
        return Condition.cat([group.extra for group in self.groups])[[indices.index(n) for n in range(len(self))]]

    @property
    def latent_error(self) -> float | None:
        """Maximum absolute difference between replayed and encoded x_0 over all images; None if not measured."""
        return max(self.errors.values()) if len(self.errors) == len(self) else None

    def recipe(self, index: int) -> dict[str, Any]:
        """Return all settings that are needed to invert the image with this index again, as JSON values.

        `resolution` is the one that was used; `resolution_default` states that the caller gave none.
        """
        group = next(each for each in self.groups if index in each.indices)
        row, stored = group.indices.index(index), group.inversion.parameters
        return {
            **made_with(self.model.network),
            "image": {"name": file_name(group.images[row].name), "sha256": group.inversion.images[row]},
            "method": self.method.name,
            "source_prompt": group.inversion.prompts[row],
            **{f"source_{name}": value for name, value in described_extra(group.extra[row]).items()},
            "seed": group.inversion.seeds[row],
            "resolution": stored.get("resolution", "full"),
            **({"resolution_default": True} if stored.get("resolution_default") else {}),
            "edited_size": list(group.size),
            "tiles": bool(stored.get("tiles", False)),
            **recipe_parameters(self.params),
        }
