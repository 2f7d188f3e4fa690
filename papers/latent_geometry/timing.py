"""The same images edited at several t: size and frequencies of the change."""

from pathlib import Path
from typing import Any

import torch

from papers.latent_geometry.local import LOW
from papers.latent_geometry.study import Study
from sfumato.geometry import local_basis, power_spectrum
from sfumato.images import contact_sheet, to_uint8, write_image

SHOWN = 4
VERSION = 2
"""Version of the measurement: stored results of another version are measured again."""


def measure(study: Study, sheet: Path) -> dict[str, Any]:
    """Frequencies of the change of the final image along the first directions at every time, both signs.

    The normalisation is disabled, because its gain depends on t; all edits therefore have the same length.
    """
    count = min(study.size.samples, 12)
    rows, by_time, columns = range(count), [], []
    for time in study.size.times:
        f, n = study.map(rows, time, 2)
        x = study.latents(count, time)
        basis = local_basis(f, x, n)
        plain = study.generate(x, rows, time)
        shown, low, size = [plain], [], []
        for i in range(n):
            for sign in (-1, 1):
                moved = study.moved(x, basis.v[:, i], sign * study.size.gamma, rows, time, normalise=False)
                edited = study.generate(moved, rows, time)
                # LOW is in cycles per latent position; one position is `factor` pixels
                change = power_spectrum(edited.clamp(-1, 1) - plain.clamp(-1, 1))
                low.append(change.share_below(LOW / study.model.network.factor))
                size.append(float((edited - plain).square().mean().sqrt()))
                shown.append(edited)
        by_time.append(
            {"time": time, "low_share": torch.stack(low).mean(dim=0).tolist(), "rms_change": sum(size) / len(size)}
        )
        columns.append(shown)
    _draw(sheet, columns, [f"t = {time:g} T" for time in study.size.times], min(SHOWN, count))
    return {"times": by_time, "samples": count}


def _draw(path: Path, columns: list[list[Any]], names: list[str], samples: int) -> None:
    rows, labels = [], []
    for sample in range(samples):
        for shown, name in zip(columns, names, strict=True):
            rows.append([to_uint8(each[sample]) for each in shown])
            labels.append([name, *(f"v_{1 + k // 2} {'-+'[k % 2]}" for k in range(len(shown) - 1))])
    write_image(path, contact_sheet(rows, labels, scale=max(1, 64 // rows[0][0].shape[0]), font_size=11))
