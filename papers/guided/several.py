"""Claim about several objects: all named objects appear. Found by the evaluator, which conditions no model."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import Any, TypeAlias

import numpy as np
import torch

from papers.guided.moves import OBJECTS
from papers.guided.study import STYLES, Numbers, Pixels, Study, as_tensor, smaller
from sfumato.data.dataset import CaptionedImages
from sfumato.metrics.objects import found_boxes

VERSION = 6
OTHERS = 98
"""Number of images of other emoji that those of the two named emoji are compared with."""
GUIDANCE = 4.0
"""Guidance scale of all images."""
SIDE = 0.45
"""Side of the objects of the real images, as a share of the image."""
METHODS = ("plain sampling", "attend-and-excite", "objects")

Pair: TypeAlias = tuple[str, str]
Draw: TypeAlias = Callable[[Pair, Sequence[str], int], list[Pixels]]
"""Maps a pair of names, the styles and a seed to one image per style."""


def pairs(count: int) -> list[Pair]:
    """A fixed choice of pairs of objects with different nouns, in random order; each pair occurs in one order only."""
    draw = np.random.default_rng(0)
    every = [(one, other) for one, other in combinations(OBJECTS, 2) if one.split()[-1] != other.split()[-1]]
    chosen = [every[n] for n in draw.permutation(len(every))[:count]]
    return [pair if kept else pair[::-1] for pair, kept in zip(chosen, draw.random(count) < 0.5, strict=True)]


def measure(study: Study) -> Numbers:
    """Number of the two named objects that are found, per prompt: every pair of objects in every style.

    An object is found if its drawing in the style of the prompt is the nearest one to a part of the image, among the
    drawings of both named and of other emoji. The row "real" is measured on images composed of two drawings, and shows
    what the evaluator finds at best.
    """
    chosen = pairs(-(-study.size.prompts // len(STYLES)))
    drawings = study.drawings(OBJECTS)
    encoder = study.evaluator.clip
    features = dict(zip(drawings, encoder.image_features(as_tensor(list(drawings.values()))), strict=True))
    others = {style: encoder.image_features(as_tensor(others_of(study, style))) for style in STYLES}

    def found(draw: Draw) -> list[int]:
        counts = []
        for seed, pair in enumerate(chosen):
            for style, pixels in zip(STYLES, draw(pair, STYLES, seed), strict=True):
                expected = torch.stack([features[f"{name}, {style}"] for name in pair])
                boxes = found_boxes(encoder, as_tensor([pixels])[0], expected, others[style])
                counts.append(sum(box is not None for box in boxes))
        return counts[: study.size.prompts]

    numbers: Numbers = {"real": found(lambda pair, styles, seed: composed(drawings, pair, styles))}
    for name in METHODS:
        numbers[name] = found(partial(generated, study, name))
    return numbers | {"pairs": [list(pair) for pair in chosen for _ in STYLES][: study.size.prompts]}


def generated(study: Study, method: str, pair: Pair, styles: Sequence[str], seed: int) -> list[Pixels]:
    """Generate "A and B, STYLE" in all styles in one call."""
    methods: list[Any] = [] if method == METHODS[0] else [(method, {"objects": ", ".join(pair)})]
    prompts = [f"{' and '.join(pair)}, {style}" for style in styles]
    options: dict[str, Any] = {"seed": seed, "steps": study.size.steps, "guidance_scale": GUIDANCE}
    return study.model.generate(prompts, methods=methods, **options).pixels


def composed(drawings: Mapping[str, Pixels], pair: Pair, styles: Sequence[str]) -> list[Pixels]:
    """Real images: the drawing of A on the left, that of B on the right."""

    def shifted(name: str, style: str, side: int) -> Pixels:
        pixels = smaller(drawings[f"{name}, {style}"], SIDE)
        return np.roll(pixels, side * round(pixels.shape[1] / 4), axis=1)

    return [np.minimum(shifted(pair[0], style, -1), shifted(pair[1], style, 1)) for style in styles]


def others_of(study: Study, style: str) -> list[Pixels]:
    """Drawings of `OTHERS` emoji of a style that no prompt names; a fixed choice."""
    side = study.model.network.native_size[0]
    every = CaptionedImages.open(study.data, side, styles=[style], tones=False, count=OTHERS + len(OBJECTS))
    named = [caption.rpartition(", ")[0] in OBJECTS for caption in every.captions]
    return [each.transpose(1, 2, 0) for each, known in zip(every.images, named, strict=True) if not known][:OTHERS]
