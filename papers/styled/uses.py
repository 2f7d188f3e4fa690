"""Uses of the descriptors: interpolation of styles, texts in place of images, variations of one content."""

from itertools import combinations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from papers.styled.control import rank_correlation
from papers.styled.study import STYLES, Cells, Numbers, Pixels, Study, as_tensor

VERSION = 3
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
    """LPIPS between images of one content from different noise, and their similarity to this and to other contents."""
    found: Numbers = {"lpips": [], "own content": [], "other content": []}
    emoji = np.array([each for group in cells for each in group.emoji])
    firsts: list[Pixels] = []
    contents = [(each.style, *pair) for each in cells for pair in zip(each.contents, each.captions, strict=True)]
    every = _described(study, "content", [image for _, image, _ in contents])
    for number, (style, image, caption) in enumerate(contents[: study.size.used // 2]):
        path = study.folder / "content.png"
        Image.fromarray(image).save(path)
        images = {"style": {str(study.styles[style]): 1.0}, "content": {str(path): 1.0}}
        options = {"parasol": str(study.parasol), "lam": 0, **images}
        seeds = [4 * number + n for n in range(4)]
        method = ("parasol", options | dict(study.encoders))
        made = study.model.generate(caption, seed=seeds, methods=[method], steps=study.size.steps).pixels
        pairs = [study.evaluator(as_tensor([a]), as_tensor([b]))["lpips"].item() for a, b in combinations(made, 2)]
        similar = (_described(study, "content", made) @ every.T).mean(0)
        others = similar[torch.from_numpy(emoji != emoji[number])]
        found["lpips"].append(float(np.mean(pairs)))
        firsts.append(made[0])
        found["own content"].append(similar[number].item())
        found["other content"].append(others.mean().item())
    other = zip(firsts, [*firsts[1:], firsts[0]], strict=True)
    between = [study.evaluator(as_tensor([a]), as_tensor([b]))["lpips"].item() for a, b in other]
    return found | {"lpips between contents": between, "emoji": emoji[: len(firsts)].tolist()}


def _described(study: Study, modality: str, images: list[Pixels]) -> Tensor:
    """Unit descriptors of images [h,w,3]."""
    return torch.from_numpy(study.describers.images(modality, [each.transpose(2, 0, 1) for each in images]))


def _read(study: Study, style: str) -> Pixels:
    return np.asarray(Image.open(study.styles[style]))
