"""Claims about pix2pix-zero (arXiv 2302.03027): its direction replaces objects; its guidance preserves structure."""

from typing import Any

import torch

from papers.guided.study import Numbers, Study, features, ink, overlap, texts

VERSION = 3
SWAPS = {"cat face": "dog face", "fox": "wolf", "red heart": "blue heart", "red apple": "green apple"}
"""Name of the object in the image -> name of its replacement."""
AMOUNTS = (0.0, 0.01, 0.1, 1.0)
"""Cross-attention guidance amounts: none, the default of the bundled model, that of the paper, and a larger one."""
PAPER = 0.1


def measure(study: Study) -> Numbers:
    """Similarity to the target minus source text, and overlap of the masks of edit and source; one value per image."""
    images, captions = study.images(list(SWAPS), study.size.swapped)
    names = [caption.rpartition(", ")[0] for caption in captions]
    targets = [caption.replace(name, SWAPS[name]) for caption, name in zip(captions, names, strict=True)]
    source, target = texts(study, captions), texts(study, targets)

    def preference(made: torch.Tensor) -> list[float]:
        return (made * (target - source)).sum(dim=1).tolist()

    inverted = study.model.invert(
        images, captions, method="pix2pix-zero", steps=study.size.steps, inversion="edit-friendly"
    )
    found: Numbers = {"names": names, "preference": {"unchanged": preference(features(study, images))}, "overlap": {}}
    for amount in AMOUNTS:
        options: dict[str, Any] = {
            "cross_attention_guidance_amount": amount,
            "guidance_scale": 2.0,
            "skip": study.size.steps // 5,
            "residual": False,
        }
        edited = inverted.edit(targets, **options).pixels
        found["preference"][f"{amount:g}"] = preference(features(study, edited))
        found["overlap"][f"{amount:g}"] = [overlap(ink(a), ink(b)) for a, b in zip(images, edited, strict=True)]
    return found
