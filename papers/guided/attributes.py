"""Delta-h (Asyrp, arXiv 2210.10960) against text edits on true pairs, at equal change outside the attribute's region.

A pair is an emoji drawn with and without the attribute in one style. Both methods are applied with several settings;
each image compares the distance to the true drawing at the same change of the pixels that the true drawing leaves
unchanged.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from papers.guided.study import STYLES, Numbers, Pixels, Study, as_tensor, rms
from sfumato.bench.pairs import Row, caption, read_corpus, read_pair
from sfumato.shifts.delta_h import DeltaH

VERSION = 2
AMOUNTS = (0.5, 1.0, 2.0, 4.0)
"""Factors of delta-h."""
SCALES = (1.5, 2.5, 3.5, 5.0)
"""Guidance scales of the text edit (edit-friendly inversion)."""
Edited: TypeAlias = Sequence[Sequence[Pixels]]
"""Edited images by setting and pair."""

TONES = ("girl", "old woman", "baby", "woman")
ATTRIBUTES: dict[str, dict[str, str]] = {
    "tone": {f"{name}: light skin tone": f"{name}: dark skin tone" for name in TONES},
    "gender": {
        f"{one}{tone}": f"{other}{tone}"
        for one, other in (("man", "woman"), ("boy", "girl"))
        for tone in ("", ": light skin tone", ": medium skin tone", ": dark skin tone")
    },
    "colour": {"red heart": "blue heart", "red circle": "blue circle", "closed book": "blue book"},
    "smile": {
        "slightly smiling face": "slightly frowning face",
        "smiling face with horns": "angry face with horns",
        "grinning cat": "pouting cat",
    },
}
"""By attribute: name of the source -> name of the target."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Images and captions of the pairs of one attribute; masks of the region that the true drawings change.

    `emoji` contains the base emoji of the sources: their skin tones and styles are not independent.
    """

    emoji: list[str]
    sources: list[Pixels]
    truths: list[Pixels]
    masks: list[NDArray[np.bool_]]
    captions: list[str]
    targets: list[str]


def read(study: Study, attribute: str) -> Pairs:
    """The pairs of an attribute whose two drawings exist; a fixed choice."""
    rows: dict[tuple[str, str], Row] = {}
    for row in read_corpus(study.data):
        rows.setdefault((row["name"], row["style"]), row)
    every = [(one, other, style) for one, other in ATTRIBUTES[attribute].items() for style in STYLES]
    every = [each for each in every if (each[0], each[2]) in rows and (each[1], each[2]) in rows]
    chosen = [every[n] for n in np.random.default_rng(0).permutation(len(every))[: study.size.attributes]]
    found = Pairs([], [], [], [], [], [])
    side = study.model.network.native_size[0]
    for one, other, style in chosen:
        source, target = rows[one, style], rows[other, style]
        images = read_pair(study.data, side, source, target)
        assert images.target is not None
        assert images.mask is not None
        found.emoji.append(source["base"])
        found.sources.append(images.source)
        found.truths.append(images.target)
        found.masks.append(images.mask)
        found.captions.append(caption(source))
        found.targets.append(caption(target))
    return found


def measure(study: Study) -> Numbers:
    """By attribute and method: one list per setting of the distance to the true drawing and of the change outside."""
    numbers: Numbers = {}
    for attribute, file in study.deltas.items():
        pairs = read(study, attribute)
        delta = DeltaH.load(file)
        inverted = study.model.invert(pairs.sources, pairs.captions, method="asyrp", steps=delta.steps)
        by_delta = [inverted.edit("", delta=str(file), amount=amount).pixels for amount in AMOUNTS]
        inverted = study.model.invert(pairs.sources, pairs.captions, method="edit-friendly")
        by_text = [inverted.edit(pairs.targets, guidance_scale=scale).pixels for scale in SCALES]
        numbers[attribute] = {
            "emoji": pairs.emoji,
            "unchanged": scores(study, pairs, [pairs.sources]),
            "asyrp": scores(study, pairs, by_delta),
            "text": scores(study, pairs, by_text),
        }
    return numbers


def scores(study: Study, pairs: Pairs, edited: Edited) -> dict[str, list[list[float]]]:
    """LPIPS and RMS distance to the true drawing, and change outside the mask, by setting and pair."""
    truths = 2 * as_tensor(pairs.truths) - 1
    with torch.no_grad():
        perceptual = [study.evaluator.perceptual(2 * as_tensor(images) - 1, truths).tolist() for images in edited]
    return {
        "lpips": perceptual,
        "rms": [[rms(*each) for each in zip(images, pairs.truths, strict=True)] for images in edited],
        "outside": [
            [outside(*each) for each in zip(pairs.sources, images, pairs.masks, strict=True)] for images in edited
        ],
    }


def outside(source: Pixels, edit: Pixels, mask: NDArray[np.bool_]) -> float:
    """Mean absolute change outside the mask, as a fraction of the range; 0 if the mask covers the image."""
    change = np.abs(source.astype(float) - edit).mean(axis=2) / 255
    return float(change[~mask].mean()) if not mask.all() else 0.0


def at_equal_change(numbers: Numbers, amount: int, metric: str) -> tuple[list[float], list[float]]:
    """Distances to the true drawing of delta-h at AMOUNTS[amount], and of the text edit at the same change outside.

    The distance of the text edit is interpolated between the unchanged image and the edits at all guidance scales,
    ordered by their change. Where delta-h changes more than all of them, the text edit is that of the largest change.
    """
    own, change = numbers["asyrp"][metric][amount], numbers["asyrp"]["outside"][amount]
    text = []
    for n, wanted in enumerate(change):
        points = [(0.0, numbers["unchanged"][metric][0][n])]
        points += [(a[n], b[n]) for a, b in zip(numbers["text"]["outside"], numbers["text"][metric], strict=True)]
        xs, ys = zip(*sorted(points), strict=True)
        text.append(float(np.interp(wanted, xs, ys)))
    return own, text
