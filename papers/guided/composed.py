"""A combined edit: edit-friendly inversion, an attribute by Asyrp, a move by Self-Guidance, restricted by a mask."""

from pathlib import Path

import numpy as np

from papers.guided.study import Pixels, Study
from sfumato.api.named import Named
from sfumato.changes import Change, move
from sfumato.examples import examples
from sfumato.images import contact_sheet, read_image, write_image

RIGHT = 0.15
AMOUNT = 4.0
STEPS, SKIP = 20, 6


def draw(study: Study, path: Path) -> None:
    """Draw the source, the edits that add one part after the other, and the mask."""
    face = next(each for each in examples() if each.name == "face")
    source = read_image(face.path).rgb
    left = np.zeros(source.shape[:2], dtype=np.uint8)
    left[:, : source.shape[1] // 2] = 255
    inverted = study.model.invert(str(face.path), face.source, method="edit-friendly", steps=STEPS, exact=True)
    attribute = ("asyrp", {"delta": str(study.deltas["smile"]), "amount": AMOUNT})

    def edit(*methods: Named, mask: Pixels | None = None) -> Pixels:
        made = inverted.edit("", methods=[*methods], skip=SKIP, guidance_scale=1.0, mask=mask)
        return made.pixels[0]

    moved = move("face", right=RIGHT), Change("self-guidance", {"energy_scale": 0.5})
    row = [
        source,
        edit(attribute),
        edit(attribute, *moved),
        edit(attribute, *moved, mask=left),
        left[..., None].repeat(3, 2),
    ]
    labels = ["source", "Asyrp", "and a move by Self-Guidance", "and a mask", "the mask"]
    write_image(path, contact_sheet([row], [labels], scale=max(1, 128 // source.shape[0]), paper=(235, 235, 235)))
