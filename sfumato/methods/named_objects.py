"""The objects that a prompt names, for methods that act on several objects: options, words and their presence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sfumato.errors import BadInput
from sfumato.methods.inversions import InversionParams
from sfumato.methods.job import Job
from sfumato.methods.objects import weights_of
from sfumato.methods.params import PromptPair, option

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from sfumato.core.condition import Condition
    from sfumato.models.diffusion_model import DiffusionModel
    from sfumato.shifts.energy.presence import Presence


@dataclass(frozen=True)
class ObjectsParams(InversionParams):
    """Which objects, and in which steps."""

    needs_text: ClassVar[bool] = True

    objects: str = option("", 'objects of the prompt, with their attributes: "red heart, cat face"', stage="edit")
    end: float = option(0.5, "share of the steps at which the guidance ends", stage="edit", low=0, high=1)

    def named(self) -> list[list[str]]:
        """Words of each object: its attributes, then its noun. Raises BadInput for an empty object."""
        parts = [part.split() for part in self.objects.split(",")] if self.objects.strip() else []
        if not all(parts):
            raise BadInput(f'objects are separated by commas, like "red heart, cat face", not "{self.objects}".')
        return parts

    def check(self) -> None:
        """Check ranges and the list of objects. Raises BadInput."""
        super().check()
        self.named()

    def check_run(self, network: DiffusionModel, size: tuple[int, int], prompts: Sequence[PromptPair]) -> None:
        """Check that every prompt contains all objects. Raises BadInput."""
        if self.objects and not prompts:
            raise BadInput("The text encoders of this model split the prompts differently, so words have no positions.")
        for _, target in prompts:
            for words in self.named():
                target.positions(" ".join(words))


def presence(job: Job, named: Sequence[Sequence[str]], *, worst: bool) -> Presence:
    """The energy of the nouns of the objects."""
    from sfumato.models.layout import word_layers
    from sfumato.shifts.energy.presence import Presence

    layers, grid = word_layers(job.network.unet, job.size)
    words = tuple(weights_of(job.condition, each[-1]) for each in named)
    return Presence(layers, grid, words, text_of(job.condition), worst)


def text_of(condition: Condition) -> Float[Tensor, "b n"]:
    """1 for tokens of the text of each prompt, 0 for start, end and padding."""
    import torch

    assert condition.tokens is not None
    found = torch.zeros(condition.tokens.shape[:2])
    for row, prompt in zip(found, condition.prompts, strict=True):
        row[1 : len(prompt.ids) - 1] = 1
    return found
