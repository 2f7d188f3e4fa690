"""Fidelity and prompt adherence of all text-guided methods, with edit-friendly and with DDIM inversion."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from papers.ddpm_noise_space.text_edits import Pixels
from sfumato.api import Model
from sfumato.api.report import unit
from sfumato.editing.registry import METHODS
from sfumato.images import contact_sheet, read_image, write_image
from sfumato.metrics import Evaluator
from sfumato.options.params import options_of

INVERSIONS = ("edit-friendly", "ddim")
BY_TEXT = ("edit-friendly", "native-ddpm", "ddim", "sdedit", "prompt-to-prompt", "plug-and-play", "pix2pix-zero")


def settings() -> dict[str, tuple[str, dict[str, Any]]]:
    """Row name -> (method, options); a method with a choice of inversions has one row for each of `INVERSIONS`."""
    rows: dict[str, tuple[str, dict[str, Any]]] = {}
    for name in (name for name in BY_TEXT if name in METHODS):
        if "inversion" in options_of(METHODS[name].params):
            rows |= {f"{name}, {inversion}": (name, {"inversion": inversion}) for inversion in INVERSIONS}
        else:
            rows[name] = (name, {})
    return rows


def measure(
    model: Model,
    images: Sequence[Any],
    sources: Sequence[str],
    targets: Sequence[str],
    *,
    callback: Callable[[str], None],
    **options: Any,
) -> tuple[dict[str, dict[str, Any]], list[list[Pixels]]]:
    """Scores of every setting, with one value for each image, and a row of images for each image."""
    evaluator = Evaluator.load(device=model.network.device)
    source_pixels = [read_image(image).rgb for image in images]
    rows: list[list[Pixels]] = [[each] for each in source_pixels]
    found: dict[str, dict[str, Any]] = {}
    for name, (method, own) in settings().items():
        callback(f"compare: {name}")
        known = options_of(METHODS[method].params)
        chosen = own | {key: value for key, value in options.items() if key in known}
        inverted = model.invert(list(images), list(sources), method=method, **chosen)
        edit = inverted.edit(list(targets), residual=False)
        scores = [
            evaluator(unit(before), unit(after), source_texts=[source], target_texts=[target])
            for before, after, source, target in zip(source_pixels, edit.pixels, sources, targets, strict=True)
        ]
        numbers = {key: torch.cat([each[key] for each in scores]).tolist() for key in ("lpips", "structure", "clip")}
        reports = (inverted.report, edit.report)
        numbers["seconds"] = sum(report["seconds"] for report in reports) / len(images)
        numbers["evaluations"] = sum(report["network_evaluations"]["samples"] for report in reports) / len(images)
        found[name] = numbers
        for row, pixels in zip(rows, edit.pixels, strict=True):
            row.append(pixels)
    return found, rows


def draw(path: Path, numbers: dict[str, dict[str, Any]], rows: Sequence[Sequence[Pixels]]) -> None:
    """Write a contact sheet with the columns: source, then one for each setting."""
    labels = [
        ["source", *(f"{name}\nLPIPS {of['lpips'][i]:.2f}\nCLIP {of['clip'][i]:.2f}" for name, of in numbers.items())]
        for i in range(len(rows))
    ]
    scale = max(1, 128 // max(image.shape[1] for image in rows[0]))
    write_image(path, contact_sheet(rows, labels, scale=scale, font_size=11))


def table(numbers: dict[str, dict[str, Any]]) -> list[str]:
    """The means over the images as lines of a Markdown table."""
    lines = [
        "| method, inversion | LPIPS | structure | CLIP | seconds | evaluations |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, of in numbers.items():
        means = [float(np.mean(of[key])) for key in ("lpips", "structure", "clip")]
        cells = [f"{value:.3g}" for value in means] + [f"{of['seconds']:.1f}", f"{of['evaluations']:.0f}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines
