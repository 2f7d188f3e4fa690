"""Edits at t = T along pullback, global, random and principal directions, which all move the latent by one distance.

The normalisation is off: it would shorten each kind of direction by a different factor, and coherence and damage of an
edit depend on its distance.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from papers.latent_geometry.study import STYLES, Study
from sfumato.core.noise import gaussian
from sfumato.geometry import local_basis, mean_directions, principal_directions, pull_back, transport
from sfumato.images import contact_sheet, to_uint8, write_image
from sfumato.metrics import Evaluator

KINDS = ("pullback", "global", "random", "pca")
NEIGHBOURS = 5
AXES = {
    "skin tone": ("woman: dark skin tone", "woman: light skin tone"),
    "gender": ("woman", "man"),
    "hair": ("woman: white hair", "woman: red hair"),
    "age": ("old man", "boy"),
    "mood": ("grinning face", "crying face"),
}
"""Attributes of the corpus, as two captions that differ in one of them."""
SHOWN = 4
"""Samples on the sheet."""
VERSION = 2
"""Version of the measurement: stored results of another version are measured again."""


def measure(study: Study, sheet: Path) -> dict[str, Any]:
    """Scores of the edits of all samples along every kind of direction."""
    rows = range(study.size.samples)
    x = study.latents(len(rows), 1.0)
    found = directions(study, x)
    plain = study.pictures(x, rows, 1.0)
    features = {"plain": _features(study.evaluator, plain)}
    pictures: dict[str, list[tuple[Tensor, Tensor]]] = {kind: [] for kind in KINDS}
    for kind in KINDS:
        for i in range(study.size.directions):
            minus, plus = (
                study.pictures(
                    study.moved(x, found[kind][:, i], sign * study.size.distance, rows, 1.0, normalise=False), rows, 1.0
                )
                for sign in (-1, 1)
            )
            features[f"{kind}-{i}-"], features[f"{kind}-{i}+"] = (
                _features(study.evaluator, minus),
                _features(study.evaluator, plus),
            )
            pictures[kind].append((minus[:SHOWN], plus[:SHOWN]))
    _draw(sheet, plain[:SHOWN], pictures)
    axes = _axes(study.evaluator) if study.model.network.takes_text else None
    numbers = {kind: _of_kind(features, kind, study.size.directions, axes) for kind in KINDS}
    return {
        "kinds": numbers,
        "samples": len(rows),
        "distance": study.size.distance,
        "gamma": study.size.gamma,
        "left": {kind: _left(study, x, found[kind][:, 0]) for kind in KINDS},
        "axes": list(AXES) if axes is not None else [],
    }


def directions(study: Study, x: Tensor) -> dict[str, Tensor]:
    """Unit vectors of X by kind of direction, [samples,directions,c,h,w]."""
    rows, count = range(len(x)), study.size.directions
    f, n = study.map(rows, 1.0, study.size.n)
    basis = local_basis(f, x, n)
    count = min(count, n)
    shared = mean_directions(basis.u, basis.values).mean[:count]
    components, _ = principal_directions(basis.h, min(count, len(x) - 1))

    def pulled(u: Tensor) -> Tensor:
        each = [pull_back(basis, transport(basis, one.expand(len(x), -1))[0]) for one in u]
        return torch.stack(each, dim=1)

    random = [[gaussian(x.shape[1:], row, step=i, tag="random direction") for i in range(count)] for row in rows]
    drawn = torch.stack([torch.stack(each) for each in random])
    lengths = torch.linalg.vector_norm(drawn, dim=(2, 3, 4), keepdim=True)
    pca = pulled(components)
    padding = pca[:, -1:].expand(-1, count - pca.shape[1], -1, -1, -1)
    return {
        "pullback": basis.v[:, :count],
        "global": pulled(shared),
        "random": (drawn / lengths).to(x.device),
        "pca": torch.cat([pca, padding], dim=1),
    }


def _features(evaluator: Evaluator, pictures: Tensor) -> Tensor:
    return F.normalize(evaluator.clip.image_features((pictures.clamp(-1, 1) + 1) / 2).double().cpu(), dim=1)


def _axes(evaluator: Evaluator) -> Tensor:
    """One unit vector in the dual encoder's feature space per attribute, [axes,d]: the mean over styles."""
    axes = []
    for more, less in AXES.values():
        texts = [[f"{name}, {style}" for style in STYLES] for name in (more, less)]
        a, b = (evaluator.clip.text_features(each).double().cpu().mean(dim=0) for each in texts)
        axes.append(F.normalize(a - b, dim=0))
    return torch.stack(axes)


def _left(study: Study, x: Tensor, v: Tensor) -> float:
    """Distance of an edit of length gamma with the normalisation, mean over samples."""
    moved = study.moved(x, v, study.size.gamma, range(len(x)), 1.0)
    return float(torch.linalg.vector_norm((moved - x).flatten(1), dim=1).mean())


def _of_kind(features: dict[str, Tensor], kind: str, count: int, axes: Tensor | None) -> dict[str, list[float]]:
    """Scores with one value for each sample, means over its directions.

    coherence: cosine between the change by +gamma and the reversed change by -gamma: 1 for a straight line.
    agreement: cosine between the changes that one direction causes in two samples.
    damage: increase of the distance to the nearest neighbours among the unedited images of other samples.
    effect: norm of the change in features.
    concentration: share of the strongest attribute in the change along all attributes.
    """
    plain = features["plain"]
    coherence, agreement, damage, effect, shares = [], [], [], [], []
    for i in range(count):
        minus, plus = features[f"{kind}-{i}-"], features[f"{kind}-{i}+"]
        coherence.append(F.cosine_similarity(plus - plain, plain - minus, dim=1))
        change = plus - minus
        effect.append(torch.linalg.vector_norm(change, dim=1))
        unit = F.normalize(change, dim=1)
        others = 1 - torch.eye(len(unit), dtype=unit.dtype)
        agreement.append(((unit @ unit.mT) * others).sum(dim=1) / others.sum(dim=1))
        damage += [_far(each, plain) - _far(plain, plain) for each in (minus, plus)]
        if axes is not None:
            along = (change @ axes.mT).abs()
            shares.append(along.amax(dim=1) / along.sum(dim=1).clamp_min(1e-12))
    named = {"coherence": coherence, "agreement": agreement, "damage": damage, "effect": effect}
    named |= {"concentration": shares} if shares else {}
    return {name: torch.stack(values).mean(dim=0).tolist() for name, values in named.items()}


def _far(features: Tensor, reference: Tensor) -> Tensor:
    """Mean cosine distance to the nearest images of the other samples, [samples]."""
    similarity = features @ reference.mT
    similarity.fill_diagonal_(-1)
    nearest = similarity.topk(min(NEIGHBOURS, len(reference) - 1), dim=1).values
    return 1 - nearest.mean(dim=1)


def _draw(path: Path, plain: Tensor, pictures: dict[str, list[tuple[Tensor, Tensor]]]) -> None:
    """Write a contact sheet: per sample and kind the unedited image, then -gamma and +gamma of every direction."""
    rows, labels = [], []
    for sample in range(len(plain)):
        for kind, edits in pictures.items():
            row, names = [plain[sample]], [kind]
            for i, (minus, plus) in enumerate(edits, start=1):
                row += [minus[sample], plus[sample]]
                names += [f"{i} -", f"{i} +"]
            rows.append([to_uint8(each) for each in row])
            labels.append(names)
    write_image(path, contact_sheet(rows, labels, scale=max(1, 64 // rows[0][0].shape[0]), font_size=11))
