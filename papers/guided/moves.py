"""Claims about Self-Guidance (arXiv 2306.00986) on objects with exact masks: moves, resizes, appearance, shape."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from papers.guided.study import Numbers, Pixels, Study, centre, colour, ink, smaller

VERSION = 3
Mask: TypeAlias = NDArray[np.bool_]
OBJECTS = (
    *("red heart", "yellow heart", "green heart", "blue heart", "purple heart", "red circle", "blue circle"),
    *("red apple", "lemon", "four leaf clover", "star", "cat face", "dog face", "fox", "grinning face"),
)
"""Objects that exist in all styles."""
NAMES = (*OBJECTS, "orange heart", "orange circle", "yellow circle", "green circle", "purple circle")
RIGHT = 0.15
"""Displacement to the right, as a share of the width."""
FACTORS = (0.7, 1.4)
"""Factors of the width and height."""
SCALE, LARGER = 0.3, 1.0
"""Energy scales: that of all edits, which is the default, and a larger one."""
ASKED = {f"resize {factor:g}{more}": factor for factor in FACTORS for more in ("", ", without appearance")}
"""Requested factor of the edits that have one."""
MARGIN = 1 / 32
"""Margin around the object that "elsewhere" excludes, as a fraction of the image."""


def measure(study: Study) -> Numbers:
    """Displacement, size and colour of every edit, measured on its pixels; one value per image."""
    images, captions = study.images(NAMES, study.size.moved)
    found: dict[str, list[Numbers]] = {}
    names: list[str] = []
    for name in NAMES:
        of_name = [n for n, caption in enumerate(captions) if caption.rpartition(", ")[0] == name]
        if not of_name:
            continue
        chosen, texts = [smaller(images[n]) for n in of_name], [captions[n] for n in of_name]
        inverted = study.model.invert(chosen, texts, method="self-guidance", steps=study.size.steps)
        for edit, options in edits_of(name).items():
            made = inverted.edit("", residual=False, **options).pixels
            right, factor = (RIGHT if "move" in options else 0.0), ASKED.get(edit, 1.0)
            found.setdefault(edit, []).extend(compared(*pair, right, factor) for pair in zip(chosen, made, strict=True))
        names += [name] * len(of_name)
    columns = {edit: {key: [each[key] for each in rows] for key in rows[0]} for edit, rows in found.items()}
    return {"right": RIGHT, "factors": list(FACTORS), "names": names, "edits": columns}


def edits_of(word: str) -> dict[str, dict[str, Any]]:
    """Options of every edit of an object, by name."""
    edits: dict[str, dict[str, Any]] = {"still": {"energy_scale": 0.0}}
    edits["move"] = {"move": f"{word}: {RIGHT}, 0", "energy_scale": SCALE}
    edits[f"move, energy scale {LARGER:g}"] = edits["move"] | {"energy_scale": LARGER}
    for factor in FACTORS:
        edits[f"resize {factor:g}"] = {"resize": f"{word}: {factor}", "energy_scale": SCALE}
    return edits | {"resize 0.7, without appearance": edits["resize 0.7"] | {"appearance_weight": 0.0}}


def compared(source: Pixels, edit: Pixels, right: float = 0.0, factor: float = 1.0) -> Numbers:
    """Displacement, size and colour change of the object, and the change elsewhere.

    If the edited image contains no object, its centroid is taken as the centre of the image.

    Args:
        source: the image before the edit.
        edit: the image after the edit.
        right: the requested displacement to the right, as a share of the width.
        factor: the requested factor of width and height.

    Returns:
        right and down: displacement of the centroid, as fractions of the image. side: factor of the square root of the
        area. colour: RMS difference of the mean colours. elsewhere: mean absolute change of pixels outside the source
        mask and the requested mask, with a margin of `MARGIN`.
    """
    before, after = ink(source), ink(edit)
    (x, y), (x2, y2) = centre(before), centre(after) if after.any() else (0.5, 0.5)
    outside = ~widened(before | requested(before, right, factor))
    change = np.abs(source.astype(float) - edit).mean(axis=2) / 255
    return {
        "right": x2 - x,
        "down": y2 - y,
        "side": float(np.sqrt(after.sum() / before.sum())),
        "colour": float(np.sqrt(((colour(source, before) - colour(edit, after)) ** 2).mean())),
        "elsewhere": float(change[outside].mean()) if outside.any() else 0.0,
    }


def requested(mask: Mask, right: float, factor: float) -> Mask:
    """The mask moved to the right and scaled about its centroid."""
    x, y = centre(mask)
    height, width = mask.shape
    rows, columns = np.mgrid[:height, :width] + 0.5
    source_x = ((columns / width - x - right) / factor + x) * width
    source_y = ((rows / height - y) / factor + y) * height
    i, j = np.floor(source_y).astype(int), np.floor(source_x).astype(int)
    inside = (i >= 0) & (i < height) & (j >= 0) & (j < width)
    return inside & mask[i.clip(0, height - 1), j.clip(0, width - 1)]


def widened(mask: Mask) -> Mask:
    """Dilate the mask by `MARGIN` along both axes."""
    reach = max(1, round(MARGIN * mask.shape[0]))
    padded = np.pad(mask, reach)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * reach + 1, 2 * reach + 1))
    return np.asarray(windows.any(axis=(2, 3)))
