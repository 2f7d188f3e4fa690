"""Control: effect of g_s, g_y and lambda on the distances of style and content."""

import numpy as np
from numpy.typing import NDArray

from papers.styled.study import Numbers, Study, joined

VERSION = 2
SCALES = (0.0, 1.0, 2.0, 4.0, 7.0)
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""lambda as a share of the steps."""


def measure(study: Study) -> Numbers:
    """Metrics for every value of each of the three parameters, and their rank correlations, one per cell."""
    emoji: list[str] = []
    lams = [round(share * study.size.steps) for share in SHARES]
    settings = {"style_scale": SCALES, "content_scale": SCALES, "lam": lams}
    found: dict[str, list[list[dict[str, list[float]]]]] = {}
    for cells in study.cells(study.size.controlled):
        emoji += cells.emoji
        inverted = study.model.invert(cells.contents, cells.captions, method="parasol", steps=study.size.steps)
        for name, values in settings.items():
            made = [inverted.edit("", **study.options(cells, **{name: value})).pixels for value in values]
            parts = found.setdefault(name, [[] for _ in values])
            for part, each in zip(parts, made, strict=True):
                part.append(study.measured(cells, each))
    tables = {name: [joined(parts) for parts in each] for name, each in found.items()}
    per_cell = {name: correlations(each) for name, each in tables.items()}
    return {"tables": tables, "correlations": per_cell, "emoji": emoji}


def correlations(table: list[dict[str, list[float]]]) -> dict[str, list[float]]:
    """Spearman's rank correlation of the parameter with each metric, one for every cell."""
    return {
        name: [rank_correlation(np.array(row)) for row in zip(*(at[name] for at in table), strict=True)]
        for name in table[0]
    }


def rank_correlation(values: NDArray[np.float64]) -> float:
    """Spearman's correlation of a sequence with its indices; ties have their mean rank. 0 for a constant sequence."""
    ranks = np.array([(values < value).sum() + ((values == value).sum() - 1) / 2 for value in values])
    places: NDArray[np.float64] = np.arange(len(values), dtype=np.float64)
    if not ranks.std():
        return 0.0
    return float(np.corrcoef(places, ranks)[0, 1])
