"""R-precision: retrieval of an image's caption among other captions (Xu et al., AttnGAN, 2018, section 4)."""

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
    """R-precision (R = 1): share in [0, 1] of the images whose own caption ranks first among `candidates` captions.

    Random features give 1 / candidates. Arguments and errors as for `retrieved`.
    """
    return retrieved(image_features, text_features, captions, candidates, seed).double().mean().item()


def retrieved(
    image_features: Float[Tensor, "n d"],
    text_features: Float[Tensor, "n d"],
    captions: Sequence[str],
    candidates: int = 100,
    seed: int = 0,
) -> Bool[Tensor, " n"]:
    """For each image, whether its caption has a higher cosine similarity than captions of other images.

    Args:
        image_features: features of the images.
        text_features: features of the captions, by the same dual encoder; row i belongs to image i.
        captions: the captions.
        candidates: number of captions that an image is compared with, its own included. The others are distinct, differ
            from its own, and depend only on (seed, i).
        seed: seed of the choice of the other captions.

    Returns:
        True if the image's own caption has strictly the highest similarity; a tie counts as False.

    Raises:
        BadInput: there are fewer different captions than candidates, or the shapes do not match.
        NonFinite: the features contain NaN or infinity.
    """
    if not image_features.shape == text_features.shape or len(captions) != len(text_features):
        raise BadInput(
            f"one text feature and one caption for each image are needed, not {list(text_features.shape)} and "
            f"{len(captions)} for {list(image_features.shape)}."
        )
    if not (torch.isfinite(image_features).all() and torch.isfinite(text_features).all()):
        raise NonFinite("the features to be compared contain NaN or infinity.")
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


def _others(own: int, distinct: int, count: int, seed: int, image: int) -> np.ndarray:
    """`count` different columns in 0..distinct-1 without `own`."""
    drawn = np.random.default_rng([seed, image]).choice(distinct - 1, count, replace=False)
    return drawn + (drawn >= own)
