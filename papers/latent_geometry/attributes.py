"""Attributes of the corpus as directions in the feature space of the evaluator, from true pairs or from captions."""

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from papers.latent_geometry.study import STYLES
from sfumato.bench.pairs import read_corpus, read_pair
from sfumato.errors import BadInput
from sfumato.metrics import DualEncoder

TONES = ("", ": light skin tone", ": medium skin tone", ": dark skin tone")
ATTRIBUTES: dict[str, dict[str, str]] = {
    "skin tone": {f"{name}: dark skin tone": f"{name}: light skin tone" for name in ("woman", "man", "girl", "boy")},
    "gender": {f"{a}{tone}": f"{b}{tone}" for a, b in (("woman", "man"), ("girl", "boy")) for tone in TONES},
    "age": {f"old {name}{tone}": f"{name}{tone}" for name in ("woman", "man") for tone in TONES},
    "mood": {"grinning face": "crying face", "smiling face": "frowning face", "grinning cat": "crying cat"},
    "cat": {
        "grinning cat": "grinning face",
        "crying cat": "crying face",
        "weary cat": "weary face",
        "pouting cat": "enraged face",
        "smiling cat with heart-eyes": "smiling face with heart-eyes",
    },
}
"""By attribute: names of the emoji with it -> of the same emoji without it."""


def axes(evaluator: DualEncoder, corpus: Path | None, size: int) -> Tensor:
    """Unit vectors of the attributes: the normalised mean difference of the features of their pairs.

    Args:
        evaluator: the dual encoder.
        corpus: the emoji corpus, whose images are compared; None: their captions.
        size: side of the images in pixels.

    Returns:
        Float64 [attributes,d], in the order of `ATTRIBUTES`.

    Raises:
        BadInput: the corpus contains no pair of an attribute, or cannot be read.
    """
    named = [(a, b, style) for pairs in ATTRIBUTES.values() for a, b in pairs.items() for style in STYLES]
    if corpus is None:
        texts = [[f"{pair[k]}, {pair[2]}" for pair in named] for k in (0, 1)]
        with_it, without = (evaluator.text_features(each) for each in texts)
        found = dict(zip(named, with_it.double().cpu() - without.double().cpu(), strict=True))
    else:
        found = _of_images(evaluator, corpus, size, named)
    means = []
    for attribute, pairs in ATTRIBUTES.items():
        differences = [found[a, b, style] for a, b in pairs.items() for style in STYLES if (a, b, style) in found]
        if not differences:
            raise BadInput(f"{corpus} contains no pair of the attribute {attribute!r}: build it with `sfumato data`.")
        means.append(torch.stack(differences).mean(dim=0))
    return F.normalize(torch.stack(means), dim=1)


def _of_images(
    evaluator: DualEncoder, corpus: Path, size: int, named: list[tuple[str, str, str]]
) -> dict[tuple[str, str, str], Tensor]:
    """Difference of the features of both images of each pair (name, name, style) that the corpus contains."""
    rows = {(row["name"], row["style"]): row for row in reversed(read_corpus(corpus))}
    present = [(a, b, style) for a, b, style in named if {(a, style), (b, style)} <= rows.keys()]
    differences = {}
    for a, b, style in present:
        images = read_pair(corpus, size, rows[a, style], rows[b, style])
        assert images.target is not None
        pixels = torch.stack([torch.from_numpy(each).permute(2, 0, 1) for each in (images.source, images.target)])
        source, target = evaluator.image_features(pixels.float() / 255).double().cpu()
        differences[a, b, style] = source - target
    return differences
