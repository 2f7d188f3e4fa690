"""Scores of edits along directions, from features of the edited images."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from papers.sure import over_pairs

NEIGHBOURS = 5


def scores(features: Mapping[str, Tensor], kind: str, count: int, axes: Tensor | None) -> dict[str, list[float]]:
    """Scores with one value for each sample, means over the directions.

    coherence: cosine between the change by +gamma and the reversed change by -gamma: 1 for a straight line.
    damage: increase of the distance to the nearest neighbours among the unedited images of other samples.
    effect: norm of the change in features.
    concentration: share of the strongest attribute in the change along all attributes.

    Args:
        features: unit vectors [samples,d]: "plain" of the unedited images, and f"{kind}-{i}+" and f"{kind}-{i}-" of the
            edits along direction i and against it.
        kind: kind of the directions.
        count: number of directions.
        axes: one unit vector per attribute, [axes,d].
    """
    plain = features["plain"]
    coherence, damage, effect, shares = [], [], [], []
    for i in range(count):
        minus, plus = features[f"{kind}-{i}-"], features[f"{kind}-{i}+"]
        coherence.append(F.cosine_similarity(plus - plain, plain - minus, dim=1))
        change = plus - minus
        effect.append(torch.linalg.vector_norm(change, dim=1))
        damage += [_far(each, plain) - _far(plain, plain) for each in (minus, plus)]
        if axes is not None:
            along = (change @ axes.mT).abs()
            shares.append(along.amax(dim=1) / along.sum(dim=1).clamp_min(1e-12))
    named = {"coherence": coherence, "damage": damage, "effect": effect}
    named |= {"concentration": shares} if shares else {}
    return {name: torch.stack(values).mean(dim=0).tolist() for name, values in named.items()}


def agreement(features: Mapping[str, Tensor], kind: str, count: int) -> list[float]:
    """Cosine between the changes that one direction causes in two samples, one value for each sample.

    The values are those of `papers.sure.over_pairs`, whose mean is that over all pairs of samples and directions.

    Args:
        features: as for `scores`.
        kind: kind of the directions.
        count: number of directions.
    """
    rows = []
    for i in range(count):
        unit = F.normalize(features[f"{kind}-{i}+"] - features[f"{kind}-{i}-"], dim=1)
        others = 1 - torch.eye(len(unit), dtype=unit.dtype)
        rows.append(((unit @ unit.mT) * others).sum(dim=1) / others.sum(dim=1))
    return over_pairs(torch.stack(rows).mean(dim=0).tolist())


def _far(features: Tensor, reference: Tensor) -> Tensor:
    """Mean cosine distance to the nearest images of the other samples, [samples]."""
    similarity = features @ reference.mT
    similarity.fill_diagonal_(-1)
    nearest = similarity.topk(min(NEIGHBOURS, len(reference) - 1), dim=1).values
    return 1 - nearest.mean(dim=1)
