"""Claims about DiffuseIT (arXiv 2209.15264): the keys of a ViT represent structure, the class token style."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from papers.guided.study import STYLES, Numbers, Pixels, Study, as_tensor, ink, overlap, rms
from sfumato.data.dataset import CaptionedImages
from sfumato.images.colour_match import match_colours
from sfumato.shifts.energy.structure import self_similarity

VERSION = 2
TEXTS = {"fox": "wolf", "cat face": "dog face", "red apple": "green apple", "pear": "lemon", "red heart": "star"}
"""Names of the images that are edited by text -> names in the target prompts."""
STEPS, SKIP = 20, 4


def measure(study: Study) -> Numbers:
    """Distances of features between emoji and styles, and edits of DiffuseIT by a text and by an image."""
    return {"features": features_of(study), "texts": by_text(study), "images": by_image(study)}


def features_of(study: Study) -> Numbers:
    """Distances of keys and of class tokens: of one emoji in two styles, and of two emoji in one style."""
    _, one, other, third = triples(study)
    found: Numbers = {"keys": {}, "class token": {}}
    vit = study.evaluator.structure
    rows = zip(one, other, third, strict=True)
    with torch.no_grad():
        read = [[vit.keys_and_class_token(_tensor(each)) for each in row] for row in rows]
    for name, column in (("the same emoji in another style", 1), ("another emoji in the same style", 2)):
        pairs = [(row[0], row[column]) for row in read]
        found["keys"][name] = [float((self_similarity(a[0]) - self_similarity(b[0])).square().mean()) for a, b in pairs]
        found["class token"][name] = [1 - float(torch.cosine_similarity(a[1], b[1], dim=1)) for a, b in pairs]
    return found


def triples(study: Study) -> tuple[list[str], list[Pixels], list[Pixels], list[Pixels]]:
    """Names of emoji, their images in the first and second style, and another emoji in the first style for each."""
    side = study.model.network.native_size[0]
    found = CaptionedImages.open(study.data, side, styles=STYLES[:2], tones=False, min_styles=2)
    place = {caption: n for n, caption in enumerate(found.captions)}
    first, second = STYLES[:2]
    every = [caption.removesuffix(f", {first}") for caption in found.captions if caption.endswith(f", {first}")]
    every = [name for name in every if f"{name}, {second}" in place]
    names = [every[n] for n in np.random.default_rng(0).permutation(len(every))[: study.size.pairs]]
    at = lambda name, style: found.images[place[f"{name}, {style}"]].transpose(1, 2, 0)  # noqa: E731
    return (
        names,
        [at(name, first) for name in names],
        [at(name, second) for name in names],
        [at(name, first) for name in names[1:] + names[:1]],
    )


def by_text(study: Study) -> Numbers:
    """Overlap of the masks of source and edit, with and without the losses on the keys."""
    images, captions = study.images(list(TEXTS), study.size.translated, tones=False)
    parts = [each.rpartition(", ") for each in captions]
    targets = [f"{TEXTS[name]}, {style}" for name, _, style in parts]
    inverted = study.model.invert(images, captions, method="diffuseit", steps=STEPS)
    found: Numbers = {}
    without = {"contrast_weight": 0.0, "similarity_weight": 0.0}
    settings: dict[str, dict[str, Any]] = {"losses of the keys": {}, "without": without}
    for name, options in settings.items():
        edited = inverted.edit(targets, skip=SKIP, residual=False, **options).pixels
        found[name] = [overlap(ink(a), ink(b)) for a, b in zip(images, edited, strict=True)]
    return found | {"names": [name for name, _, _ in parts]}


def by_image(study: Study) -> Numbers:
    """RMS error of style transfer to the true image in the other style: DiffuseIT, SDEdit and colour matching."""
    names, one, other, _ = triples(study)
    count = study.size.translated
    style = (other[1:] + other[:1])[:count]  # the target image is another emoji in the second style
    names, one, truth = names[:count], one[:count], other[:count]
    matched = [match_colours(_tensor(a), _tensor(b)) for a, b in zip(one, style, strict=True)]
    edited = {"unchanged": one, "colour matching": [_pixels(each) for each in matched], "DiffuseIT": []}
    with TemporaryDirectory() as folder:
        for name, a, b in zip(names, one, style, strict=True):
            path = Path(folder) / "target.png"
            Image.fromarray(b).save(path)
            inverted = study.model.invert(a, f"{name}, {STYLES[0]}", method="diffuseit", steps=STEPS)
            options: dict[str, Any] = {"target_image": str(path), "skip": SKIP, "residual": False}
            edited["DiffuseIT"] += inverted.edit("", **options).pixels
    source, target = ([f"{name}, {style}" for name in names] for style in STYLES[:2])
    inverted = study.model.invert(one, source, method="sdedit", steps=STEPS)
    edited["SDEdit"] = inverted.edit(target, skip=STEPS // 2, residual=False).pixels
    return {name: [rms(a, b) for a, b in zip(made, truth, strict=True)] for name, made in edited.items()}


def _tensor(pixels: Pixels) -> Tensor:
    """[1,3,h,w] in [-1, 1]."""
    return 2 * as_tensor([pixels]) - 1


def _pixels(image: Tensor) -> Pixels:
    found = ((image[0].clamp(-1, 1) + 1) * 127.5).round().byte()
    return np.asarray(found.permute(1, 2, 0))
