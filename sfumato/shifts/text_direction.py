"""Edit directions from two banks of sentences (pix2pix-zero, Parmar et al., arXiv 2302.03027, section 3.1).

    dc = mean_j E(target sentence j) - mean_i E(source sentence i)

E is the output of the text encoder at all token positions, as the U-Net receives it; for SDXL, the concatenated outputs
of both text encoders and the pooled vector. The mean over many sentences gives a more robust direction than the
embeddings of two single words.
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
from sfumato.formats import TEXT_DIRECTION, Format
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.shifts.banks import check_size

TOGETHER = 64
"""Maximum number of sentences that are encoded in one batch."""


@dataclass(frozen=True, eq=False)
class TextDirection:
    """The difference dc of two mean text conditions.

    Attributes:
        tokens: difference of the tokens, [n,d].
        pooled: difference of the pooled vectors (SDXL), [p]; None for models without one.
        model: fingerprint of the model whose text encoders were used.
        source: the sentences of the source bank.
        target: the sentences of the target bank.
    """

    FORMAT: ClassVar[Format] = TEXT_DIRECTION

    tokens: Float[Tensor, "n d"]
    pooled: Float[Tensor, " p"] | None
    model: str
    source: tuple[str, ...]
    target: tuple[str, ...]

    def check_model(self, fingerprint: str) -> None:
        """Check that the direction was computed with the model of this fingerprint.

        Raises:
            BadInput: the fingerprints differ.
        """
        if self.model != fingerprint:
            raise BadInput(
                f"This direction was computed with another model, or in another precision (weights {self.model[:12]}, "
                f"not {fingerprint[:12]}): load that model, or compute the direction again."
            )

    def check_condition(self, condition: Condition) -> None:
        """Check that the direction has the shapes of a condition that it is added to.

        Raises:
            BadInput: the numbers or dimensions of the tokens or of the pooled vectors differ.
        """
        assert condition.tokens is not None
        count = condition.tokens.shape[1]
        if len(self.tokens) != count:
            raise BadInput(
                f"The text direction has {len(self.tokens)} tokens and the prompts have {count}: compute it with the "
                "same prompt_chunks."
            )
        pairs = (self.tokens, condition.tokens), (self.pooled, condition.pooled)
        own, wanted = ([None if each is None else each.shape[-1] for each in side] for side in zip(*pairs, strict=True))
        if own != wanted:
            raise BadInput(
                f"The text direction has vectors of the dimensions {own} for tokens and pooled, and the model has "
                f"{wanted}: compute it again with this model."
            )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one safetensors file, atomically. Raises BadInput if it cannot be written."""
        tensors = {"tokens": self.tokens} | ({} if self.pooled is None else {"pooled": self.pooled})
        header = {"model": self.model, "source": self.source, "target": self.target}
        self.FORMAT.write(path, header, tensors)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> "TextDirection":
        """Read a file that `save` wrote.

        Raises:
            BadInput: the file does not exist, is not a text direction, or is damaged.
        """
        return TextDirection.FORMAT.read(path, _assemble)


@torch.no_grad()
def text_direction(network: DiffusionModel, source: Sequence[str], target: Sequence[str]) -> TextDirection:
    """Compute the direction from the sentences of one bank to those of another.

    Args:
        network: a model with text encoders.
        source: sentences of the source bank, at least two.
        target: sentences of the target bank, at least two.

    Raises:
        BadInput: a bank has fewer than two sentences, a sentence is too long, or the model has no text encoder.
    """
    if not network.takes_text:
        raise BadInput(f"{network.name or 'This model'} has no text input, so it has no text directions.")
    (tokens, pooled), (other, pooled_other) = (_means(network, bank) for bank in (source, target))
    apart = None if pooled is None or pooled_other is None else pooled_other - pooled
    return TextDirection(other - tokens, apart, network.fingerprint(), tuple(source), tuple(target))


TOKENS = "the tokens of the condition"
"""Name of the quantity that `MoveCondition` replaces, see `Shift.replaces`."""


@dataclass(frozen=True, eq=False)
class MoveCondition(Shift):
    """Replace c by c + scale dc in every step.

    Attributes:
        directions: dc, one per row of the condition.
        scale: factor of dc; 1 is the full difference of the means.
    """

    directions: Sequence[TextDirection]
    scale: float = 1.0

    def replaces(self, i: int, steps: int) -> tuple[str, ...]:
        """The tokens, so that a second shift that replaces them raises an error."""
        return (TOKENS,)

    def condition(self, state: StepState, condition: Condition) -> Condition:
        """Return c + scale dc, for the tokens and the pooled vector.

        Raises:
            BadInput: as `TextDirection.check_condition`.
        """
        for each in self.directions:
            each.check_condition(condition)
        assert condition.tokens is not None
        tokens = torch.stack([each.tokens for each in self.directions]).to(condition.tokens)
        moved = replace(condition, tokens=condition.tokens + self.scale * tokens)
        if condition.pooled is None:
            return moved
        pooled = torch.stack([each.pooled for each in self.directions if each.pooled is not None])
        return replace(moved, pooled=condition.pooled + self.scale * pooled.to(condition.pooled))


def _means(network: DiffusionModel, bank: Sequence[str]) -> tuple[Tensor, Tensor | None]:
    """Mean tokens [n,d] and mean pooled vector [p] of a bank, float32."""
    check_size(bank, "A bank")
    parts = [network.text_condition(bank[first : first + TOGETHER]) for first in range(0, len(bank), TOGETHER)]
    every = Condition.cat(parts)
    assert every.tokens is not None
    return every.tokens.float().mean(dim=0), None if every.pooled is None else every.pooled.float().mean(dim=0)


def _assemble(header: Any, tensors: dict[str, Tensor]) -> TextDirection:
    """Build a direction from the content of a file. Raises KeyError, TypeError or ValueError if it is invalid."""
    source, target = (_sentences(header[name]) for name in ("source", "target"))
    found = TextDirection(tensors["tokens"], tensors.get("pooled"), str(header["model"]), source, target)
    parts = [(found.tokens, 2)] + ([] if found.pooled is None else [(found.pooled, 1)])
    if not all(part.ndim == ndim and bool(part.isfinite().all()) for part, ndim in parts):
        raise ValueError("no tokens, or not finite")
    return found


def _sentences(saved: Any) -> tuple[str, ...]:
    """Convert a bank from JSON. Raises ValueError for anything but a list of strings."""
    if not isinstance(saved, list) or not all(isinstance(sentence, str) for sentence in saved):
        raise ValueError("not a list of sentences")
    return tuple(saved)
