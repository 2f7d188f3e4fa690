"""Finding the right caption among others: R-precision at 1 (Xu et al., AttnGAN, 2018, section 4)."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from sfumato.errors import BadInput, NonFinite


def r_precision(
    image_features: Float[Tensor, "n d"],
    text_features: Float[Tensor, "n d"],
    captions: Sequence[str],
    candidates: int = 100,
    seed: int = 0,
) -> float:
    """Share in [0, 1] of the pictures whose own caption comes first among `candidates`; chance is 1 / candidates.

    Raises what `retrieved` raises.
    """
    return retrieved(image_features, text_features, captions, candidates, seed).double().mean().item()


def retrieved(
    image_features: Float[Tensor, "n d"],
    text_features: Float[Tensor, "n d"],
    captions: Sequence[str],
    candidates: int = 100,
    seed: int = 0,
) -> Bool[Tensor, " n"]:
    """For each picture, whether its caption has a higher cosine than candidates - 1 captions of other pictures.

    Row i of the features and captions belong to picture i. The others are distinct captions that differ from
    the picture's own, drawn by (seed, i) alone; a tie counts as missed.
    Raises BadInput when there are too few different captions, NonFinite for NaN features.
    """
    if not image_features.shape == text_features.shape or len(captions) != len(text_features):
        raise BadInput(
            f"one text feature and one caption for each picture are needed, not {list(text_features.shape)} and "
            f"{len(captions)} for {list(image_features.shape)}."
        )
    if not (torch.isfinite(image_features).all() and torch.isfinite(text_features).all()):
        raise NonFinite("the features to be compared hold NaN or infinity.")
    first = {caption: row for row, caption in reversed(list(enumerate(captions)))}
    distinct = {caption: column for column, caption in enumerate(first)}
    if not 2 <= candidates <= len(distinct):
        raise BadInput(
            f"candidates must lie in 2..{len(distinct)}, the number of different captions, not {candidates}."
        )
    own = np.array([distinct[caption] for caption in captions])
    others = np.stack([_others(int(mine), len(distinct), candidates - 1, seed, i) for i, mine in enumerate(own)])
    texts = F.normalize(text_features.double(), dim=-1)[list(first.values())]
    similarity = F.normalize(image_features.double(), dim=-1) @ texts.T
    right = similarity.gather(1, torch.from_numpy(own[:, None]).to(similarity.device))
    wrong = similarity.gather(1, torch.from_numpy(others).to(similarity.device))
    return (right > wrong).all(dim=1)


def _others(own: int, distinct: int, count: int, seed: int, picture: int) -> np.ndarray:
    """`count` different columns of 0..distinct-1, never `own`."""
    drawn = np.random.default_rng([seed, picture]).choice(distinct - 1, count, replace=False)
    return drawn + (drawn >= own)
