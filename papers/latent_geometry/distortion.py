"""Edits by length with and without normalisation (the paper's ablation); geodesic shooting and straight lines."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from papers.latent_geometry.study import Study
from sfumato.core.noise import gaussian_batch
from sfumato.geometry import local_basis, principal_angles, shoot, shoot_straight
from sfumato.images import contact_sheet, to_uint8, write_image

LENGTHS = (0.5, 1.0, 2.0, 4.0)
"""Multiples of gamma."""
SHOWN = 4
SATURATED = 0.99
VERSION = 2
"""Version of the measurement: stored results of another version are measured again."""


def saturated(images: Tensor) -> list[float]:
    """Fraction of the colour values of each image that are at or beyond the ends of the range [-1,1]."""
    return list((images.abs() > SATURATED).double().mean(dim=(1, 2, 3)).tolist())


def measure(study: Study, sheet: Path) -> dict[str, Any]:
    """Saturation and standard deviation of edited images by length, with and without the normalisation."""
    count = min(study.size.samples, 12)
    rows = range(count)
    f, n = study.map(rows, 1.0, 1)
    x = study.latents(count, 1.0)
    v = local_basis(f, x, n).v[:, 0]
    plain = study.generate(x, rows, 1.0)
    shown: dict[str, list[Tensor]] = {"normalised": [plain], "without": [plain]}
    found: dict[str, list[dict[str, Any]]] = {"normalised": [], "without": []}
    for length in LENGTHS:
        for name in shown:
            moved = study.moved(x, v, length * study.size.gamma, rows, 1.0, normalise=name != "without")
            edited = study.generate(moved, rows, 1.0)
            shown[name].append(edited)
            deviation = float(edited.std(dim=(1, 2, 3)).mean())
            found[name].append({"length": length, "saturated": saturated(edited), "deviation": deviation})
    _draw(sheet, shown, min(SHOWN, count))
    own = {"saturated": saturated(plain), "deviation": float(plain.std(dim=(1, 2, 3)).mean())}
    return {"plain": own, "kinds": found, "samples": count}


def _draw(path: Path, shown: dict[str, list[Tensor]], samples: int) -> None:
    rows = [[to_uint8(each[sample]) for each in kind] for sample in range(samples) for kind in shown.values()]
    labels = [[name, *(f"{length:g} gamma" for length in LENGTHS)] for _ in range(samples) for name in shown]
    write_image(path, contact_sheet(rows, labels, scale=max(1, 64 // rows[0][0].shape[0]), font_size=11))


def curvature(study: Study, sheet: Path) -> dict[str, Any]:
    """Rotation of the tangent spaces of X and H by a small step; movement in H by shooting and by a straight line.

    Random low-dimensional subspaces of a high-dimensional space are nearly orthogonal, so angles are given relative to
    those between random subspaces of the same dimensions.
    """
    count = min(study.size.samples, 16)
    rows = range(count)
    f, n = study.map(rows, 1.0, study.size.rank)
    x = study.latents(count, 1.0)
    before = local_basis(f, x, n)
    shots = list(shoot(f, x, before.u[:, 0], gamma=study.size.gamma, steps=study.size.shots, n=n, basis=before))
    (small,) = shoot(f, x, before.u[:, 0], gamma=study.size.step, steps=1, n=n, basis=before)
    after = local_basis(f, small.x, n)
    turned = {"h": (before.u, after.u), "x": (before.v.flatten(2), after.v.flatten(2))}
    straight = list(shoot_straight(f, x, before.v[:, 0], gamma=study.size.gamma, steps=study.size.shots))
    images = [study.generate(each.x, rows, 1.0) for each in shots]
    others = [study.generate(each.x, rows, 1.0) for each in straight]
    sheet_rows = [
        [to_uint8(each[row]) for each in kind] for row in range(min(SHOWN, count)) for kind in (images, others)
    ]
    names = [
        [f"{name} {k + 1}" for k in range(len(shots))]
        for _ in range(min(SHOWN, count))
        for name in ("shot", "straight")
    ]
    write_image(sheet, contact_sheet(sheet_rows, names, scale=max(1, 64 // sheet_rows[0][0].shape[0]), font_size=11))
    forward = {
        name: _forward(f, x, before.u[:, 0], each[-1].x) for name, each in (("shooting", shots), ("straight", straight))
    }
    return {
        "turned": {name: _turned(*spaces) for name, spaces in turned.items()},
        "step": study.size.step,
        "transport_angle": [float(each.angle.mean()) for each in shots],
        "straight_angle": [float(each.angle.mean()) for each in straight],
        "length": [float(each.length.mean()) for each in shots],
        "expected": [float(each.expected.mean()) for each in shots],
        "along": forward,
        "samples": count,
    }


def _turned(before: Tensor, after: Tensor) -> list[float]:
    """Mean principal angle between the spaces of each sample, relative to that of random spaces."""
    _, n, d = before.shape
    random = torch.linalg.qr(gaussian_batch((2, d, n), list(range(8)), tag="chance", dtype=torch.float64))[0].mT
    chance = principal_angles(random[:, 0], random[:, 1]).mean()
    return list((principal_angles(before, after).mean(dim=1).double() / chance).tolist())


def _forward(f: Any, x: Tensor, u: Tensor, end: Tensor) -> list[float]:
    """Cosine between the actual and the intended change of the bottleneck, for each sample."""
    return list(torch.nn.functional.cosine_similarity(f(end) - f(x), u, dim=1).tolist())
