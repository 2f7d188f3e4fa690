"""Text edits of real images with several seeds of the edit-friendly and of the native inversion."""

from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sfumato.api import Model, Result
from sfumato.images import contact_sheet, read_image, write_image

Pixels: TypeAlias = NDArray[np.uint8]
METHODS = {"edit-friendly": "edit-friendly", "native": "native-ddpm"}


def measure(
    model: Model,
    images: Sequence[Any],
    sources: Sequence[str],
    targets: Sequence[str],
    *,
    seeds: int,
    callback: Callable[[str], None],
    **options: Any,
) -> tuple[list[dict[str, Any]], list[list[Pixels]]]:
    """Scores and a row of images for each image; `options` are those of the inversion (default: the model's)."""
    numbers, rows = [], []
    for image, source, target in zip(images, sources, targets, strict=True):
        callback(f"edit: {source} -> {target}")
        measured, row = _edit(model, image, source, target, seeds, options)
        numbers.append(measured)
        rows.append(row)
    return numbers, rows


def draw(path: Path, numbers: Sequence[dict[str, Any]], rows: Sequence[Sequence[Pixels]]) -> None:
    """Write a contact sheet with the columns: source, reconstruction, edits by edit-friendly and by native maps."""
    labels = []
    for each in numbers:
        captions = [each["source"], f"reconstruction\n{each['reconstruction_psnr']:.1f} dB"]
        for name in METHODS:
            found = zip(each[name]["ssim"], each[name]["similarity"] or [None] * len(each[name]["ssim"]), strict=True)
            for seed, (ssim, similarity) in enumerate(found):
                text = f"{each['target']}\n{name}, seed {seed}" + ("" if ssim is None else f"\nSSIM {ssim:.2f}")
                captions.append(text + ("" if similarity is None else f", CLIP {similarity:.2f}"))
        labels.append(captions)
    scale = max(1, 128 // max(image.shape[1] for image in rows[0]))
    write_image(path, contact_sheet(rows, labels, scale=scale, font_size=11))


def _edit(
    model: Model, image: Any, source: str, target: str, seeds: int, options: dict[str, Any]
) -> tuple[dict[str, Any], list[Pixels]]:
    numbers: dict[str, Any] = {"source": source, "target": target}
    row = [read_image(image).rgb]
    for name, method in METHODS.items():
        inverted = model.invert(image, source, method=method, seed=list(range(seeds)), **options)
        if name == "edit-friendly":
            again = inverted.reconstruct()
            row.append(again.pixels[0])
            numbers["reconstruction_latent_max_error"] = again.report["reconstruction_latent_max_error"]
            numbers["reconstruction_psnr"] = again.report["metrics"]["reconstruction_psnr"][0]
        edit = inverted.edit(target)
        row += edit.pixels
        numbers[name] = _summary(edit)
        numbers["source_similarity"] = (edit.report["metrics"].get("source_similarity_to_target") or [None])[0]
    return numbers, row


def _summary(edit: Result) -> dict[str, Any]:
    metrics = edit.report["metrics"]
    return {
        "parameters": edit.report["parameters"],
        "psnr": metrics["edit_psnr"],
        "ssim": metrics["edit_ssim"],
        "similarity": metrics.get("edit_similarity_to_target"),
        "distance_between_seeds": _distance_between(edit.pixels),
    }


def _distance_between(images: Sequence[Pixels]) -> float | None:
    """Root mean square difference in levels of 255, averaged over all pairs; None for a single image."""
    pairs = [(a.astype(float), b.astype(float)) for a, b in combinations(images, 2)]
    return float(np.mean([np.sqrt(np.mean((a - b) ** 2)) for a, b in pairs])) if pairs else None
