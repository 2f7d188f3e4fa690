"""Texture preservation of colour manipulation (eq. 7), compared with SDEdit of the image painted in that colour."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from papers.ddpm_noise_space.text_edits import Pixels
from sfumato.api import Model
from sfumato.images import contact_sheet, pad_to_grid, read_image, write_image
from sfumato.methods.colour import rgb
from sfumato.shifts.colour import TowardsColour

COLOUR = "#3388ff"
STRENGTH, WINDOW = 0.04, (100, 700)
"""s and [T_1, T_2]."""
NEARLY_WHITE = 240
"""Pixels of the examples above this level in all channels are background."""
LEVELS = (0.4, 0.55, 0.7, 0.85)
"""Fractions of the steps that SDEdit skips, from high to low noise."""


def measure(
    model: Model, images: Sequence[Any], sources: Sequence[str], *, callback: Callable[[str], None], **options: Any
) -> tuple[list[dict[str, Any]], list[list[Pixels]]]:
    """Colour distance and texture correlation of eq. 7 and of SDEdit at several noise levels; rows of images."""
    numbers, rows = [], []
    for image, source in zip(images, sources, strict=True):
        callback(f"colour: {source}")
        pixels = read_image(image).rgb
        inside = subject(pixels)
        mask = Image.fromarray(np.where(inside, 255, 0).astype(np.uint8))
        inverted = model.invert(image, source, method="colour", **options)
        ours = inverted.edit(source, methods=[], shifts=[published(model, pixels)], mask=mask, residual=False).pixels[0]
        painted = np.where(inside[..., None], np.asarray(rgb(COLOUR), np.uint8), pixels)
        beside = model.invert(Image.fromarray(painted), source, method="sdedit", **options)
        steps = beside.params.steps  # type: ignore[attr-defined]
        theirs = [
            beside.edit(source, skip=min(steps - 1, round(share * steps)), mask=mask, residual=False).pixels[0]
            for share in LEVELS
        ]
        measured = [_of(edit, pixels, inside) for edit in (pixels, ours, *theirs)]
        numbers.append({"source": source, "before": measured[0], "ours": measured[1], "sdedit": measured[2:]})
        rows.append([pixels, ours, *theirs])
    return numbers, rows


def published(model: Model, pixels: Pixels, name: str = COLOUR) -> TowardsColour:
    """Eq. 7 as in the paper: M is an image of one colour, and B the mask of the edit."""
    colour = torch.tensor(rgb(name), dtype=torch.float32)[None, :, None, None] / 127.5 - 1
    flat, _ = pad_to_grid(colour.expand(1, 3, *pixels.shape[:2]), model.network.multiple)
    with torch.no_grad():
        M = model.network.encode(flat)
    return TowardsColour(M, STRENGTH, torch.ones_like(M[:, :1]), WINDOW)


def subject(pixels: Pixels) -> NDArray[np.bool_]:
    """Mask of the pixels that are not background, bool [h,w]."""
    return np.asarray((pixels < NEARLY_WHITE).any(axis=2))


def _of(edit: Pixels, source: Pixels, inside: NDArray[np.bool_]) -> dict[str, float]:
    """The scores of one edit inside the subject.

    colour: distance of the mean colour to the target colour, in levels of 255.
    texture: correlation of the brightness with that of the source.
    """
    mean = edit[inside].astype(float).mean(axis=0)
    before, after = (pixels[inside].astype(float).mean(axis=1) for pixels in (source, edit))
    flat = before.std() < 1e-6 or after.std() < 1e-6
    return {
        "colour": float(np.sqrt(((mean - np.asarray(rgb(COLOUR))) ** 2).mean())),
        "texture": 0.0 if flat else float(np.corrcoef(before, after)[0, 1]),
    }


def at_equal_colour(numbers: dict[str, Any]) -> dict[str, float]:
    """SDEdit at the noise level whose colour distance is closest to ours, where textures are comparable."""
    levels: list[dict[str, float]] = numbers["sdedit"]
    return min(levels, key=lambda each: abs(each["colour"] - numbers["ours"]["colour"]))


def draw(path: Path, numbers: Sequence[dict[str, Any]], rows: Sequence[Sequence[Pixels]]) -> None:
    """Write a contact sheet with the columns: source, eq. 7, SDEdit at several noise levels."""
    names = ["source", "eq. 7", *(f"SDEdit from {1 - share:.0%}" for share in LEVELS)]
    labels = [
        [
            f"{name}\ncolour {found['colour']:.0f}, texture {found['texture']:.2f}"
            for name, found in zip(names, [each["before"], each["ours"], *each["sdedit"]], strict=True)
        ]
        for each in numbers
    ]
    scale = max(1, 128 // max(image.shape[1] for image in rows[0]))
    write_image(path, contact_sheet(rows, labels, scale=scale, font_size=11))
