"""Image shifting: all noise maps are shifted and replayed under the source prompt (section 2.2 of the paper)."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from papers.ddpm_noise_space.text_edits import METHODS, Pixels
from sfumato.api import Inverted, Model
from sfumato.api.report import unit
from sfumato.images import contact_sheet, read_image, write_image
from sfumato.metrics import psnr, ssim

SHARE = 0.25
"""Shift of the maps to the right, as a fraction of the width."""
STARTS = {"all steps": 0.0, "60 % skipped": 0.6}
"""Fractions of the steps that the replay skips: none, as in the paper, or those that determine the layout."""


def measure(
    model: Model, images: Sequence[Any], sources: Sequence[str], *, callback: Callable[[str], None], **options: Any
) -> tuple[list[dict[str, Any]], list[list[Pixels]]]:
    """PSNR and SSIM to the shifted image, for each image, start and kind of maps; and a row of images."""
    numbers, rows = [], []
    for image, source in zip(images, sources, strict=True):
        callback(f"shift: {source}")
        pixels = read_image(image).rgb
        row: list[Pixels] = [pixels]
        measured: dict[str, Any] = {"source": source} | {start: {} for start in STARTS}
        for name, method in METHODS.items():
            inverted = model.invert(image, source, method="shift", inversion=method, **options)
            right = round(SHARE * inverted.groups[0].inversion.x.shape[-1])
            wanted = np.roll(pixels, right * model.network.factor, axis=1)
            for start, share in STARTS.items():
                moved = _moved(inverted, source, right, share)
                measured[start][name] = {
                    "psnr": float(psnr(unit(moved), unit(wanted))),
                    "ssim": float(ssim(unit(moved), unit(wanted))),
                    "right": right,
                }
                row.append(moved)
        numbers.append(measured)
        rows.append(row)
    return numbers, rows


def _moved(inverted: Inverted, source: str, right: int, share: float) -> Pixels:
    """The result of replaying shifted maps under the source prompt, at the source guidance scale."""
    params: Any = inverted.params
    skip = round(share * params.steps)
    return inverted.edit(
        source, skip=skip, guidance_scale=params.source_guidance_scale, right=right, residual=False
    ).pixels[0]


def draw(path: Path, numbers: Sequence[dict[str, Any]], rows: Sequence[Sequence[Pixels]]) -> None:
    """Write a contact sheet with the columns: source, shifted edit-friendly maps, shifted native maps, by start."""
    labels = [
        [each["source"], *(_label(name, start, each[start][name]) for name in METHODS for start in STARTS)]
        for each in numbers
    ]
    scale = max(1, 128 // max(image.shape[1] for image in rows[0]))
    write_image(path, contact_sheet(rows, labels, scale=scale, font_size=11))


def _label(name: str, start: str, found: dict[str, float]) -> str:
    return f"{name}, {start}\n{found['psnr']:.1f} dB, SSIM {found['ssim']:.2f}"
