"""Grounding: training the cross-attention maps of an object's words to cover the object.

TokenCompose (Wang et al., CVPR 2024, arXiv 2312.03626) adds losses to the diffusion loss that compare the map of a word
with the segmentation mask of its object. Scenes have exact masks, and the loss here is the divergence of the normalised
mask M from the normalised map A, the mean over the word's tokens and the heads of a layer:

    L = KL(M || A),    M_u = m_u / sum_v m_v,    A_u = a_u / sum_v a_v       u, v: cells of the layer's feature map

It is 0 if the map is uniform on the object and 0 elsewhere. It is averaged over the objects of a batch and over all
cross-attention layers, and weighted by abar_t, because at high noise levels the positions are not yet determined.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from sfumato.data.scenes import Scenes
from sfumato.train.task import Batch
from sfumato.train.tokenizer import Tokens

_LEAST = 1e-6
"""Smallest share of a cell, which bounds the logarithm."""


class GroundedCaptions:
    """Random captions of scenes, with the tokens and the masks of their objects.

    Args:
        scenes: the scenes and single images.
        tokens: tokenises captions and words.
        side: height and width of the masks in cells, those of the latents.
    """

    def __init__(self, scenes: Scenes, tokens: Tokens, side: int) -> None:
        self.scenes, self.tokens = scenes, tokens
        found = [F.adaptive_avg_pool2d(torch.from_numpy(scenes.masks(i)).float(), side) for i in range(len(scenes))]
        self.most = max(map(len, found))
        self.masks = torch.zeros(len(scenes), self.most, side, side)
        for row, masks in zip(self.masks, found, strict=True):
            row[: len(masks)] = masks

    def draw(self, rows: Tensor, generator: torch.Generator) -> tuple[list[str], list[list[str]]]:
        """Random captions of the items `rows` (int64 [b]), and the words of their objects."""
        varied = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
        drawn = [self.scenes.caption_and_words(row, varied) for row in rows.tolist()]
        return [caption for caption, _ in drawn], [words for _, words in drawn]

    def targets(self, rows: Tensor, ids: Tensor, words: Sequence[Sequence[str]]) -> Batch:
        """The weights of the tokens of every object and its mask; both are 0 for objects that are not grounded.

        Args:
            rows: indices of the items, int64 [b].
            ids: token ids of their captions, int64 [b,n].
            words: words of the objects of every item; [] for dropped captions.

        Returns:
            "words" [b,k,n], whose rows have the sum 1 or 0, and "masks" [b,k,side,side], the covered share of cells.
        """
        weights = torch.zeros(len(rows), self.most, ids.shape[1])
        for b, (own, some) in enumerate(zip(ids.tolist(), words, strict=True)):
            after = 0
            for k, word in enumerate(some):
                place = _place(own, self.tokens.of(word), after)
                weights[b, k, list(place)] = 1 / max(1, len(place))
                after = place.stop
        return {"words": weights, "masks": self.masks[rows] * (weights.sum(-1) > 0)[..., None, None]}


def _place(ids: Sequence[int], part: Sequence[int], after: int) -> range:
    """Positions of the first occurrence of `part` in `ids` from position `after`; empty if there is none."""
    for first in range(after, len(ids) - len(part) + 1):
        if list(ids[first : first + len(part)]) == list(part):
            return range(first, first + len(part))
    return range(after, after)


def grounding_loss(
    maps: Mapping[str, Float[Tensor, "b heads queries n"]],
    words: Float[Tensor, "b k n"],
    masks: Float[Tensor, "b k s s"],
    weights: Float[Tensor, " b"],
) -> Tensor:
    """The weighted mean of KL(M || A) over objects and layers; 0 if no object is grounded.

    Args:
        maps: cross-attention maps by layer, of square feature maps.
        words: weight of every token for each object; 0 for objects that are not grounded.
        masks: mask of each object, the covered share of cells.
        weights: weight of every image.
    """
    grounded = (words.sum(-1) > 0) & (masks.sum((-2, -1)) > 0)
    total = masks.new_zeros(())
    for each in maps.values():
        seen = words @ each.to(words).mean(1).transpose(1, 2)
        side = round(seen.shape[-1] ** 0.5)
        covered = F.adaptive_avg_pool2d(masks, side).flatten(2)
        found, wanted = (part / part.sum(-1, keepdim=True).clamp(min=_LEAST) for part in (seen, covered))
        divergence = (wanted * (wanted.clamp(min=_LEAST).log() - found.clamp(min=_LEAST).log())).sum(-1)
        total = total + (divergence * grounded * weights[:, None]).sum() / grounded.sum().clamp(min=1)
    return total / max(1, len(maps))
