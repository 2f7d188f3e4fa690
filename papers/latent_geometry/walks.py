"""Lengths of paths between latents at t = T: lerp, slerp, geodesic (section 4.2 of the paper)."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from papers.latent_geometry.kept import kept
from papers.latent_geometry.study import Study
from sfumato.geometry.paths import KINDS, PathKind, path, path_lengths, perceptual_lengths
from sfumato.images import contact_sheet, to_uint8, write_image
from sfumato.metrics import lpips

COLOURS = {"lerp": "tab:red", "slerp": "tab:blue", "geodesic": "tab:green"}
VERSION = 1
"""Version of the measurement: stored results of another version are measured again."""
SHOWN = 7
"""Number of images per path in the contact sheet."""


def measure(study: Study, out: Path, callback: Callable[[str], None]) -> dict[str, Any]:
    """Lengths of all segments of all pairs; the results of each pair are stored when it is finished."""
    pairs = []
    for pair in range(study.size.pairs):
        callback(f"path {pair + 1} of {study.size.pairs}")
        found = kept(study, out, f"pair-{pair:03}", VERSION, partial(_walked, pair=pair, kinds=("lerp", "slerp")))
        if pair < study.size.geodesics:
            found |= kept(study, out, f"geodesic-{pair:03}", VERSION, partial(_walked, pair=pair, kinds=("geodesic",)))
        pairs.append(found)
    numbers: dict[str, Any] = {"pairs": len(pairs), "animations": min(study.size.animations, len(pairs)), "kinds": {}}
    for kind in KINDS:
        walked = [each[kind] for each in pairs if kind in each]
        numbers["kinds"][kind] = {name: _summary([w[name] for w in walked if name in w]) for name in walked[0]}
    together = [each for each in pairs if "geodesic" in each]
    numbers["semantic"] = {kind: [sum(each[kind]["semantic"]) for each in pairs] for kind in ("lerp", "slerp")}
    numbers["same_pairs"] = {kind: [sum(each[kind]["semantic"]) for each in together] for kind in KINDS}
    numbers["lerp_segments"] = [each["lerp"]["semantic"] for each in pairs]
    return numbers


def _walked(study: Study, pair: int, kinds: tuple[PathKind, ...]) -> dict[str, Any]:
    """Lengths of the paths of one pair, under the prompt of its first latent."""
    a, b = _ends(study, pair)
    f, rank = study.map([2 * pair], 1.0, study.size.rank)
    found: dict[str, Any] = {}
    for kind in kinds:
        points = list(path(kind, a, b, segments=study.size.segments, f=f, n=rank))
        lengths = path_lengths(f, iter(points), rank)
        found[kind] = {name: getattr(lengths, name)[0].tolist() for name in ("semantic", "bottleneck", "latent")}
        if pair < study.size.animations:
            images = ((_film(study, points, pair).clamp(-1, 1)) + 1) / 2
            found[kind]["perceptual"] = perceptual_lengths(
                images, lambda x, y: lpips(study.evaluator.perceptual, x, y)
            ).tolist()
    return found


def _ends(study: Study, pair: int) -> tuple[Tensor, Tensor]:
    x = study.latents(2 * pair + 2, 1.0)
    return x[2 * pair][None], x[2 * pair + 1][None]


def _film(study: Study, points: list[Tensor], pair: int) -> Tensor:
    return study.generate(torch.cat(points), [2 * pair] * len(points), 1.0)


def _summary(segments: list[list[float]]) -> dict[str, Any]:
    """Mean and standard deviation of the total length over paths, and the mean length of each segment."""
    values = torch.tensor(segments, dtype=torch.float64)
    spread = float(values.sum(dim=1).std()) if len(values) > 1 else 0.0
    total = {"paths": len(values), "mean": float(values.sum(dim=1).mean()), "deviation": spread}
    return total | {"by_segment": values.mean(dim=0).tolist()}


def draw(path: Path, numbers: dict[str, Any]) -> None:
    """Draw the mean length by segment: semantic, in the bottleneck, perceptual."""
    figure = Figure(figsize=(14, 4), layout="constrained")
    for axes, name in zip(figure.subplots(1, 3), ("semantic", "bottleneck", "perceptual"), strict=True):
        for kind, colour in COLOURS.items():
            found = numbers["kinds"][kind].get(name)
            if found:
                label = f"{kind}: {found['mean']:.3g} ({found['paths']} pairs)"
                axes.plot(range(1, len(found["by_segment"]) + 1), found["by_segment"], color=colour, label=label)
        axes.set(xlabel="segment", title=f"{name} length of a segment; total", ylim=(0, None))
        axes.legend()
    figure.savefig(path, dpi=110)


def draw_animations(study: Study, path_of: Path) -> dict[str, Any]:
    """Write a contact sheet of the first pair along every kind of path."""
    a, b = _ends(study, 0)
    f, rank = study.map([0], 1.0, study.size.rank)
    rows, labels = [], []
    for kind in KINDS:
        rows.append(_frames(study, kind, a, b, f, rank))
        labels.append([kind, *[""] * (len(rows[-1]) - 1)])
    write_image(path_of, contact_sheet(rows, labels, scale=max(1, 96 // rows[0][0].shape[0])))
    return {"frames": SHOWN}


def _frames(study: Study, kind: PathKind, a: Tensor, b: Tensor, f: Any, rank: int) -> list[Any]:
    points = list(path(kind, a, b, segments=SHOWN - 1, f=f, n=rank))
    return [to_uint8(each) for each in _film(study, points, 0)]
