"""Image shifting: all noise maps moved under the picture's own prompt; edit-friendly maps carry the picture along."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from papers.ddpm_noise_space.text_edits import METHODS, Pixels
from sfumato.api import Model
from sfumato.api.report import unit
from sfumato.images import contact_sheet, read_image, write_image
from sfumato.metrics import psnr, ssim

SHARE = 0.25
"""How far the maps are moved: a share of the picture's width, to the right."""


def measure(
    model: Model, images: Sequence[Any], sources: Sequence[str], *, tell: Callable[[str], None], **options: Any
) -> tuple[list[dict[str, Any]], list[list[Pixels]]]:
    """How near the result is to the moved picture, for each image and kind of noise maps; and a row of pictures."""
    numbers, rows = [], []
    for image, source in zip(images, sources, strict=True):
        tell(f"shift: {source}")
        picture = read_image(image).rgb
        row: list[Pixels] = [picture]
        measured: dict[str, Any] = {"source": source}
        for name, method in METHODS.items():
            inverted = model.invert(image, source, method="shift", inversion=method, **options)
            right = round(SHARE * inverted.groups[0].inversion.x.shape[-1])
            own = getattr(inverted.params, "source_strength", 1.0)
            moved = inverted.edit(source, skip=0, strength=own, right=right, residual=False).pixels[0]
            wanted = unit(np.roll(picture, right * model.network.factor, axis=1))
            measured[name] = {
                "psnr": float(psnr(unit(moved), wanted)),
                "ssim": float(ssim(unit(moved), wanted)),
                "right": right,
            }
            row.append(moved)
        numbers.append(measured)
        rows.append(row)
    return numbers, rows


def draw(path: Path, numbers: Sequence[dict[str, Any]], rows: Sequence[Sequence[Pixels]]) -> None:
    """source | edit-friendly maps moved | native maps moved."""
    labels = [
        [each["source"], *(f"{name}\n{each[name]['psnr']:.1f} dB, SSIM {each[name]['ssim']:.2f}" for name in METHODS)]
        for each in numbers
    ]
    scale = max(1, 128 // max(picture.shape[1] for picture in rows[0]))
    write_image(path, contact_sheet(rows, labels, scale=scale, font_size=11))
