"""Normalisation against none, at growing length (the ablation of the paper); shooting against a straight line."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from papers.latent_geometry.study import Study
from sfumato.geometry import local_basis, principal_angles, shoot, shoot_straight
from sfumato.images import contact_sheet, to_uint8, write_image

LENGTHS = (0.5, 1.0, 2.0, 4.0)
"""Multiples of gamma."""
SHOWN = 4
SATURATED = 0.99


def saturated(pictures: Tensor) -> float:
    """Share of the colour values at or beyond the ends of the range [-1,1]."""
    return float((pictures.abs() > SATURATED).double().mean())


def measure(study: Study, sheet: Path) -> dict[str, Any]:
    """Saturated values and deviation of edited pictures by length, with and without the normalisation."""
    count = min(study.size.samples, 12)
    rows = range(count)
    f, n = study.map(rows, 1.0, 1)
    x = study.latents(count, 1.0)
    v = local_basis(f, x, n).v[:, 0]
    plain = study.pictures(x, rows, 1.0)
    shown: dict[str, list[Tensor]] = {"normalised": [plain], "without": [plain]}
    found: dict[str, list[dict[str, float]]] = {"normalised": [], "without": []}
    for length in LENGTHS:
        for name in shown:
            moved = study.moved(x, v, length * study.size.gamma, rows, 1.0, raw=name == "without")
            edited = study.pictures(moved, rows, 1.0)
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
    """How much tangent spaces turn in X and in H by one step, and how far shooting and a straight line get in H."""
    count = min(study.size.samples, 8)
    rows = range(count)
    f, n = study.map(rows, 1.0, study.size.rank)
    x = study.latents(count, 1.0)
    before = local_basis(f, x, n)
    shots = list(shoot(f, x, before.u[:, 0], gamma=study.size.gamma, steps=study.size.shots, n=n, basis=before))
    after = local_basis(f, shots[0].x, n)
    in_h = principal_angles(before.u, after.u)
    in_x = principal_angles(before.v.flatten(2), after.v.flatten(2))
    straight = list(shoot_straight(f, x, before.v[:, 0], gamma=study.size.gamma, steps=study.size.shots))
    pictures = [study.pictures(each.x, rows, 1.0) for each in shots]
    others = [study.pictures(each.x, rows, 1.0) for each in straight]
    sheet_rows = [
        [to_uint8(each[row]) for each in kind] for row in range(min(SHOWN, count)) for kind in (pictures, others)
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
        "angle_in_h": float(in_h.mean()),
        "angle_in_x": float(in_x.mean()),
        "transport_angle": [float(each.angle.mean()) for each in shots],
        "straight_angle": [float(each.angle.mean()) for each in straight],
        "length": [float(each.length.mean()) for each in shots],
        "expected": [float(each.expected.mean()) for each in shots],
        "along": forward,
        "samples": count,
    }


def _forward(f: Any, x: Tensor, u: Tensor, end: Tensor) -> float:
    """Cosine between where the bottleneck went and where it was sent."""
    return float(torch.nn.functional.cosine_similarity(f(end) - f(x), u, dim=1).mean())
