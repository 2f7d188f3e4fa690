"""Uses of the descriptors: interpolation of styles, texts in place of images, variations of one content."""

from collections.abc import Iterable
from itertools import combinations, zip_longest
from statistics import fmean
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from papers.styled.control import rank_correlation
from papers.styled.study import STYLES, Cells, Numbers, Pixels, Study, as_tensor, generated

VERSION = 4
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)


def measure(study: Study) -> Numbers:
    """Measurements of the three uses."""
    cells = list(study.cells(study.size.used))
    return {
        "emoji": [emoji for each in cells for emoji in each.emoji],
        "interpolation": [value for each in cells for value in interpolation(study, each)],
        "text": [value for each in cells for value in by_text(study, each)],
        "diversity": diversity(study, cells),
    }


def interpolation(study: Study, cells: Cells) -> list[float]:
    """Rank correlation of a style's weight with the similarity to it minus that to the other style, per cell."""
    inverted = study.model.invert(cells.contents, cells.captions, method="parasol", steps=study.size.steps)
    other = STYLES[(STYLES.index(cells.style) + 1) % len(STYLES)]
    paths = {name: study.styles[name] for name in (cells.style, other)}
    axis = _described(study, "style", [_read(study, name) for name in paths])
    found = []
    for weight in WEIGHTS:
        pairs = {paths[cells.style]: weight, paths[other]: 1 - weight}
        style = {str(path): share for path, share in pairs.items() if share}
        made = inverted.edit("", **study.options(cells) | {"style": style}).pixels
        found.append(_described(study, "style", made) @ (axis[0] - axis[1]))
    return [rank_correlation(np.array(row)) for row in torch.stack(found, dim=1).tolist()]


def by_text(study: Study, cells: Cells) -> list[float]:
    """Increase of the style similarity to the style image by an edit with the name of the style, per cell."""
    inverted = study.model.invert(cells.contents, cells.captions, method="parasol", steps=study.size.steps)
    options = study.options(cells, style_text=cells.style)
    del options["style"]
    wanted = _described(study, "style", [_read(study, cells.style)])[0]
    before, after = (_described(study, "style", each) for each in (cells.contents, inverted.edit("", **options).pixels))
    return (after @ wanted - before @ wanted).tolist()


def diversity(study: Study, cells: list[Cells]) -> Numbers:
    """Variety of images of one content from different noise, over contents of all styles.

    Args:
        study: the model and its encoders.
        cells: cells of all styles; half of their contents are used.

    Returns:
        Per content: LPIPS between its images, LPIPS between them and an image of another content in the same style, the
        similarity of its images to it and to other contents, and its emoji.
    """
    found: Numbers = {"lpips": [], "lpips between contents": [], "own content": [], "other content": [], "emoji": []}
    contents = _contents(cells)
    every = _described(study, "content", [each.image for each in contents])
    for number, one in enumerate(contents[: study.size.used // 2]):
        others = torch.tensor([each.emoji != one.emoji for each in contents])
        another = next(each for each in [*contents[number:], *contents] if each.emoji != one.emoji)
        seeds = list(range(5 * number, 5 * number + 5))
        made = generated(study, one.style, one.image, one.caption, seeds[:4])
        (different,) = generated(study, one.style, another.image, another.caption, seeds[4:])
        similar = (_described(study, "content", made) @ every.T).mean(0)
        found["lpips"].append(_distance(study, combinations(made, 2)))
        found["lpips between contents"].append(_distance(study, ((each, different) for each in made)))
        found["own content"].append(similar[number].item())
        found["other content"].append(similar[others].mean().item())
        found["emoji"].append(one.emoji)
    return found


class _Content(NamedTuple):
    """A content image with its caption and its emoji, and the target style of its cell."""

    style: str
    image: Pixels
    caption: str
    emoji: str


def _contents(cells: list[Cells]) -> list[_Content]:
    """The contents of all groups: the first one of each group, then the second one of each, and so on."""
    groups = [
        [_Content(each.style, *content) for content in zip(each.contents, each.captions, each.emoji, strict=True)]
        for each in cells
    ]
    return [content for row in zip_longest(*groups) for content in row if content is not None]


def _distance(study: Study, pairs: Iterable[tuple[Pixels, Pixels]]) -> float:
    """Mean LPIPS of pairs of images."""
    return fmean(study.evaluator(as_tensor([a]), as_tensor([b]))["lpips"].item() for a, b in pairs)


def _described(study: Study, modality: str, images: list[Pixels]) -> Tensor:
    """Unit descriptors of images [h,w,3]."""
    return torch.from_numpy(study.describers.images(modality, [each.transpose(2, 0, 1) for each in images]))


def _read(study: Study, style: str) -> Pixels:
    return np.asarray(Image.open(study.styles[style]))
