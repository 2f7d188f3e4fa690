"""Reference images in the cells of the comparison: the true drawing, and another drawing in the style of the cell.

They show what the metrics that compare with the style image give for images whose style is right.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from papers.styled.cells import Made
from papers.styled.study import Cells, Numbers, Study, joined

VERSION = 1
TRUE, OTHER = "the true drawing", "another drawing in the style"
"""Names of the reference images. The other drawing is a random training image; it shows another content."""


def measure(study: Study) -> Numbers:
    """Metrics of the reference images and the emoji of the cells, by name of the reference."""
    found: dict[str, list[Mapping[str, list[Any]]]] = {TRUE: [], OTHER: []}
    draw = np.random.default_rng(0)
    for cells in study.cells(study.size.cells):
        for name, images in {TRUE: cells.truths, OTHER: _others(study, cells, draw)}.items():
            found[name].append(study.measured(cells, images) | {"emoji": cells.emoji})
    return {name: joined(parts) for name, parts in found.items()}


def _others(study: Study, cells: Cells, draw: np.random.Generator) -> Made:
    """Random training images in the style of the cells, one per cell."""
    rows = np.flatnonzero(np.array(study.training.table["style"].to_pylist()) == cells.style)
    return [study.training.images[row].transpose(1, 2, 0) for row in draw.choice(rows, len(cells.emoji))]
