"""Edits at t = T along pullback, global, random and principal directions, which all move the latent by equal distances.

The normalisation is disabled: it would shorten each kind of direction by a different factor, and the coherence and
damage of an edit depend on its distance. Global and principal directions are computed from other samples than those
that are edited.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from papers.latent_geometry.attributes import ATTRIBUTES, axes
from papers.latent_geometry.scores import agreement, scores
from papers.latent_geometry.study import Study
from sfumato.core.noise import gaussian
from sfumato.geometry import local_basis, mean_directions, principal_directions, pull_back, transport
from sfumato.images import contact_sheet, to_uint8, write_image
from sfumato.metrics import Evaluator

KINDS = ("pullback", "global", "random", "pca")
SHARED = "shared random"
"""Random directions that are equal for all images, as a baseline for the agreement of other kinds."""
SHOWN = 4
"""Samples on the sheet."""
VERSION = 4
"""Version of the measurement: stored results of another version are measured again."""


def measure(study: Study, sheet: Path) -> dict[str, Any]:
    """Scores of the edits of all samples along every kind of direction."""
    rows = range(study.size.samples)
    x = study.latents(len(rows), 1.0)
    found = directions(study, x)
    plain = study.generate(x, rows, 1.0)
    features = {"plain": _features(study.evaluator, plain)}
    shown: dict[str, list[tuple[Tensor, Tensor]]] = {kind: [] for kind in KINDS}
    for kind in (*KINDS, SHARED):
        for i in range(study.size.directions):
            minus, plus = (
                study.generate(
                    study.moved(x, found[kind][:, i], sign * study.size.distance, rows, 1.0, normalise=False), rows, 1.0
                )
                for sign in (-1, 1)
            )
            features[f"{kind}-{i}-"], features[f"{kind}-{i}+"] = (
                _features(study.evaluator, minus),
                _features(study.evaluator, plus),
            )
            if kind != SHARED:
                shown[kind].append((minus[:SHOWN], plus[:SHOWN]))
    _draw(sheet, plain[:SHOWN], shown)
    side = study.model.network.native_size[0]
    along = axes(study.evaluator.clip, study.corpus, side) if study.model.network.takes_text else None
    count = study.size.directions
    numbers = {kind: scores(features, kind, count, along) for kind in KINDS}
    for kind in KINDS:
        # the random directions of the other scores differ from image to image
        numbers[kind]["agreement"] = agreement(features, SHARED if kind == "random" else kind, count)
    return {
        "kinds": numbers,
        "samples": len(rows),
        "distance": study.size.distance,
        "gamma": study.size.gamma,
        "left": {kind: _left(study, x, found[kind][:, 0]) for kind in KINDS},
        "axes": list(ATTRIBUTES) if along is not None else [],
        "true pairs": study.corpus is not None,
    }


def directions(study: Study, x: Tensor) -> dict[str, Tensor]:
    """Unit vectors of X by kind of direction, [samples,directions,c,h,w]."""
    rows, count = range(len(x)), study.size.directions
    f, n = study.map(rows, 1.0, study.size.n)
    basis, others = local_basis(f, x, n), local_basis(f, study.latents(len(x), 1.0, seed=len(x)), n)
    count = min(count, n)
    shared = mean_directions(others.u, others.values).mean[:count]
    components, _ = principal_directions(others.h, min(count, len(x) - 1))

    def pulled(u: Tensor) -> Tensor:
        each = [pull_back(basis, transport(basis, one.expand(len(x), -1))[0]) for one in u]
        return torch.stack(each, dim=1)

    def random(row: int, tag: str) -> Tensor:
        drawn = torch.stack([gaussian(x.shape[1:], row, step=i, tag=tag) for i in range(count)])
        return drawn / torch.linalg.vector_norm(drawn, dim=(1, 2, 3), keepdim=True)

    pca = pulled(components)
    padding = pca[:, -1:].expand(-1, count - pca.shape[1], -1, -1, -1)
    return {
        "pullback": basis.v[:, :count],
        "global": pulled(shared),
        "random": torch.stack([random(row, "random direction") for row in rows]).to(x.device),
        SHARED: random(0, "shared random direction").expand(len(x), -1, -1, -1, -1).to(x.device),
        "pca": torch.cat([pca, padding], dim=1),
    }


def _features(evaluator: Evaluator, images: Tensor) -> Tensor:
    return F.normalize(evaluator.clip.image_features((images.clamp(-1, 1) + 1) / 2).double().cpu(), dim=1)


def _left(study: Study, x: Tensor, v: Tensor) -> float:
    """Distance in the latent of an edit of length gamma with the normalisation, mean over samples."""
    moved = study.moved(x, v, study.size.gamma, range(len(x)), 1.0)
    return float(torch.linalg.vector_norm((moved - x).flatten(1), dim=1).mean())


def _draw(path: Path, plain: Tensor, shown: dict[str, list[tuple[Tensor, Tensor]]]) -> None:
    """Write a contact sheet: per sample and kind the unedited image, then -gamma and +gamma of every direction."""
    rows, labels = [], []
    for sample in range(len(plain)):
        for kind, edits in shown.items():
            row, names = [plain[sample]], [kind]
            for i, (minus, plus) in enumerate(edits, start=1):
                row += [minus[sample], plus[sample]]
                names += [f"{i} -", f"{i} +"]
            rows.append([to_uint8(each) for each in row])
            labels.append(names)
    write_image(path, contact_sheet(rows, labels, scale=max(1, 64 // rows[0][0].shape[0]), font_size=11))
