"""Control: effect of g_s, g_y and lambda on the distances of style and content, and of g_y on images from noise."""

import numpy as np
from numpy.typing import NDArray

from papers.styled.study import Numbers, Study, generated, joined

VERSION, NOISE_VERSION = 2, 1
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


def from_noise(study: Study) -> Numbers:
    """The effect of g_y on images from noise instead of from the inversion of the content image, as in `measure`.

    The five images of a cell have the same noise.
    """
    emoji: list[str] = []
    found: list[list[dict[str, list[float]]]] = [[] for _ in SCALES]
    for cells in study.cells(study.size.controlled):
        numbers = range(len(emoji), len(emoji) + len(cells.emoji))
        emoji += cells.emoji
        for value, parts in zip(SCALES, found, strict=True):
            made = [
                generated(study, cells.style, content, caption, [number], content_scale=value)[0]
                for number, content, caption in zip(numbers, cells.contents, cells.captions, strict=True)
            ]
            parts.append(study.measured(cells, made))
    table = [joined(parts) for parts in found]
    return {"table": table, "correlations": correlations(table), "emoji": emoji}


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
