"""Edit directions from two banks of sentences (pix2pix-zero, Parmar et al., arXiv 2302.03027, section 3.1).

    dc = mean_j E(target sentence j) - mean_i E(source sentence i)

E are the text encoder's states at all token positions, as the network gets them: for SDXL those of both encoders side
by side, and the pooled vector. Many sentences per word make a steadier direction than the two words alone.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.condition import Condition
from sfumato.core.shift import Shift
from sfumato.core.state import StepState
from sfumato.errors import BadInput
from sfumato.formats import Format
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.shifts.banks import check_size

TOGETHER = 64
"""Sentences that are encoded at a time."""


@dataclass(frozen=True, eq=False)
class TextDirection:
    """A difference of text conditions.

    Attributes:
        tokens: [n,d].
        pooled: [p], for models with a pooled vector.
        model: fingerprint of the model whose text encoders it comes from.
        source: the sentences that it leads away from.
        target: the sentences that it leads to.
    """

    FORMAT: ClassVar[Format] = Format("sfumato.text-direction.2", "a text direction", "find it again")

    tokens: Float[Tensor, "n d"]
    pooled: Float[Tensor, " p"] | None
    model: str
    source: tuple[str, ...]
    target: tuple[str, ...]

    def check_model(self, fingerprint: str) -> None:
        """Refuse to move the condition of another model.

        Raises:
            BadInput: the fingerprints differ.
        """
        if self.model != fingerprint:
            raise BadInput(
                f"This direction was found with another model, or in another precision (weights {self.model[:12]}, "
                f"not {fingerprint[:12]}): load that one, or find the direction again."
            )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one safetensors file, which is there whole or not at all. Raises BadInput where it cannot be."""
        tensors = {"tokens": self.tokens} | ({} if self.pooled is None else {"pooled": self.pooled})
        header = {"model": self.model, "source": self.source, "target": self.target}
        self.FORMAT.write(path, header, tensors)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> "TextDirection":
        """Read what `save` wrote.

        Raises:
            BadInput: no such file, no direction, or damaged.
        """
        return TextDirection.FORMAT.read(path, _assemble)


@torch.no_grad()
def text_direction(network: DiffusionModel, source: Sequence[str], target: Sequence[str]) -> TextDirection:
    """The direction from the sentences of one bank to those of the other.

    Raises:
        BadInput: a bank of fewer than two sentences, a sentence that is too long, or a model without text.
    """
    if not network.takes_text:
        raise BadInput(f"{network.name or 'This model'} has no text input, so there are no directions of text.")
    (tokens, pooled), (other, pooled_other) = (_means(network, bank) for bank in (source, target))
    apart = None if pooled is None or pooled_other is None else pooled_other - pooled
    return TextDirection(other - tokens, apart, network.fingerprint(), tuple(source), tuple(target))


@dataclass(frozen=True, eq=False)
class MoveCondition(Shift):
    """c + scale dc in every step.

    Attributes:
        directions: dc, one per row of the condition.
        scale: how far.
    """

    directions: Sequence[TextDirection]
    scale: float = 1.0

    def condition(self, state: StepState, condition: Condition) -> Condition:
        """The moved condition."""
        assert condition.tokens is not None
        tokens = torch.stack([each.tokens for each in self.directions]).to(condition.tokens)
        moved = replace(condition, tokens=condition.tokens + self.scale * tokens)
        if condition.pooled is None:
            return moved
        pooled = torch.stack([each.pooled for each in self.directions if each.pooled is not None])
        return replace(moved, pooled=condition.pooled + self.scale * pooled.to(condition.pooled))


def _means(network: DiffusionModel, bank: Sequence[str]) -> tuple[Tensor, Tensor | None]:
    """The mean tokens [n,d] and pooled vector [p] of a bank, float32."""
    check_size(bank, "A bank")
    parts = [network.condition(bank[first : first + TOGETHER]) for first in range(0, len(bank), TOGETHER)]
    every = Condition.cat(parts)
    assert every.tokens is not None
    return every.tokens.float().mean(dim=0), None if every.pooled is None else every.pooled.float().mean(dim=0)


def _assemble(header: Any, tensors: dict[str, Tensor]) -> TextDirection:
    """A direction as a file has it. Raises KeyError, TypeError or ValueError where it holds something else."""
    source, target = (_sentences(header[name]) for name in ("source", "target"))
    found = TextDirection(tensors["tokens"], tensors.get("pooled"), str(header["model"]), source, target)
    parts = [(found.tokens, 2)] + ([] if found.pooled is None else [(found.pooled, 1)])
    if not all(part.ndim == ndim and bool(part.isfinite().all()) for part, ndim in parts):
        raise ValueError("no tokens, or not finite")
    return found


def _sentences(saved: Any) -> tuple[str, ...]:
    """A bank as JSON gives it back. Raises ValueError for anything else."""
    if not isinstance(saved, list) or not all(isinstance(sentence, str) for sentence in saved):
        raise ValueError("not a list of sentences")
    return tuple(saved)
