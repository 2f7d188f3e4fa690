"""Claims about delta-h (Asyrp, arXiv 2210.10960): asymmetry, homogeneity, linearity, robustness, consistency."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from papers.guided.study import Numbers, Pixels, Study, features, texts
from sfumato.core.noise import gaussian_batch
from sfumato.core.shift import Shift
from sfumato.core.state import StepNoise, StepState
from sfumato.core.step import predict_x0
from sfumato.models.encoder_half import MIDDLE
from sfumato.models.taps import Replace
from sfumato.shifts.asyrp import Asyrp
from sfumato.shifts.delta_h import DeltaH

VERSION = 3
AMOUNT = 2.0
"""Factor of delta-h, that of the example in docs/guidance.md."""
TIMES = 10.0
"""Norm of the noise that is added to h, as a multiple of the norm of h."""
AMOUNTS = (-2.0, -1.0, 1.0, 2.0)
FACES = ("face-smiling", "face-affection", "face-tongue", "face-hand", "face-neutral-skeptical")
NEAREST = 200
"""Number of faces of the corpus that are searched for the nearest face."""


@dataclass(frozen=True, eq=False)
class Both(Shift):
    """delta-h in a single evaluation, which changes both P_t and D_t (a symmetric process)."""

    delta: DeltaH
    weight: float

    def taps(self, state: StepState) -> Replace | None:
        """h + w dh at the timesteps of the edit."""
        if state.t < self.delta.t_edit:
            return None
        return Replace(MIDDLE, lambda h: (h.float() + self.weight * self.delta(h, state.t)).to(h.dtype))


@dataclass(frozen=True, eq=False)
class Changed(Asyrp):
    """Asyrp with dh replaced by a function `change` of the trained dh and the timestep."""

    change: Callable[[Tensor, int], Tensor] = lambda dh, t: dh

    def prediction_taps(self, state: StepNoise) -> Replace | None:
        """h + w change(dh) in P only."""
        delta, weight = self.deltas[0], self.weights[0]
        if state.t < delta.t_edit:
            return None
        return Replace(MIDDLE, lambda h: (h.float() + weight * self.change(delta(h, state.t), state.t)).to(h.dtype))


@dataclass(frozen=True, eq=False)
class Noisy(Shift):
    """Gaussian noise of `times` the norm of h, added to h in P only: the influence of h on the image."""

    times: float

    def prediction_taps(self, state: StepNoise) -> Replace:
        """h + times |h| z / |z|."""

        def change(h: Tensor) -> Tensor:
            z = noise_like(h, state.t)
            return (h.float() + self.times * z * _norm(h.float()) / _norm(z)).to(h.dtype)

        return Replace(MIDDLE, change)


class RandomPrediction(Asyrp):
    """Asyrp whose change of P_t is replaced by Gaussian noise of the same norm."""

    def prediction(self, state: StepNoise, prediction: Tensor) -> Tensor:
        """P_t plus Gaussian noise with the norm of the change by dh, per image."""
        plain = predict_x0(state.x_t, state.eps, state.abar)
        z = noise_like(prediction, state.t).double()
        return plain + z * _norm(prediction - plain) / _norm(z)


def noise_like(x: Tensor, t: int) -> Tensor:
    """Gaussian noise of the shape of x, a function of the row and t."""
    return gaussian_batch(x.shape[1:], list(range(len(x))), step=t, tag="robustness", device=x.device)


def _norm(x: Tensor) -> Tensor:
    return x.flatten(1).norm(dim=1).reshape(-1, *[1] * (x.ndim - 1))


def measure(study: Study) -> Numbers:
    """Edit faces with all variants of the delta-h that the claims compare; every score has one value per face."""
    delta = DeltaH.load(study.deltas["smile"])
    images, captions = faces(study)
    inverted = study.model.invert(images, captions, method="asyrp", steps=delta.steps)

    def edit(shift: Shift) -> list[Pixels]:
        return inverted.edit("", methods=[], shifts=[shift], residual=False).pixels

    def asyrp(amount: float, kind: type[Asyrp] = Asyrp, **options: Any) -> Asyrp:
        return kind([delta], [amount], **options)

    still = edit(Shift())
    everything = {f"{amount:g}": edit(asyrp(amount)) for amount in AMOUNTS}
    everything["both"] = edit(Both(delta, AMOUNT))
    everything["borrowed"] = edit(asyrp(AMOUNT, Changed, change=lambda dh, t: dh.roll(1, dims=0)))
    same = lambda dh, t: noise_like(dh, t) * _norm(dh) / _norm(noise_like(dh, t))  # noqa: E731
    everything["random in h"] = edit(asyrp(AMOUNT, Changed, change=same))
    everything[f"{TIMES:g} times h"] = edit(Noisy(TIMES))
    everything["random in eps"] = edit(asyrp(AMOUNT, RandomPrediction))
    return {
        "attribute": delta.attribute,
        "steps": delta.steps,
        "names": [caption.rpartition(", ")[0] for caption in captions],
        "same_steps": _agreement(inverted, delta),
        **_scores(study, delta, captions, still, everything),
    }


def faces(study: Study) -> tuple[list[Pixels], list[str]]:
    """Faces of the splits `test` and `cells`, on which neither the model nor the delta-h was trained."""
    images: list[Pixels] = []
    captions: list[str] = []
    for split in ("test", "cells"):
        found = study.images(None, study.size.faces, subgroups=FACES, tones=False, split=split)
        images, captions = images + found[0], captions + found[1]
    return images[: study.size.faces], captions[: study.size.faces]


def _scores(
    study: Study, delta: DeltaH, captions: Sequence[str], still: Sequence[Pixels], everything: dict[str, list[Pixels]]
) -> Numbers:
    """Per edit and face: feature change along the text direction, pixel change, damage, and cosines of the changes.

    The damage is the increase of the feature distance to the nearest face of the corpus other than the edited one.
    """
    start = features(study, still)
    source, target = texts(study, [delta.source, delta.target])
    towards = F.normalize(target - source, dim=0)
    real, of = study.images(None, NEAREST, subgroups=FACES, tones=False)
    near, own_face = features(study, real), torch.tensor([[a == b for b in of] for a in captions])
    nearest = lambda f: 1 - (f @ near.mT).masked_fill(own_face, -1).amax(dim=1)  # noqa: E731
    own = features(study, everything[f"{AMOUNT:g}"]) - start
    found: Numbers = {"edits": {}}
    for name, edited in everything.items():
        made = features(study, edited)
        change = made - start
        found["edits"][name] = {
            "attribute": (change @ towards).tolist(),
            "change": [float(np.abs(a.astype(float) - b).mean() / 255) for a, b in zip(edited, still, strict=True)],
            "damage": (nearest(made) - nearest(start)).tolist(),
            "agreement": F.cosine_similarity(change, own, dim=1).tolist(),
            "agreement_of_samples": F.cosine_similarity(change, own.roll(1, dims=0), dim=1).tolist(),
        }
    return found


def _agreement(inverted: Any, delta: DeltaH) -> list[float]:
    """Mean cosine of the dh of consecutive steps of the edit, per face."""
    by_step: dict[int, list[Tensor]] = {}

    def record(dh: Tensor, t: int) -> Tensor:
        by_step.setdefault(t, []).append(dh.flatten(1))
        return dh

    inverted.edit("", methods=[], shifts=[Changed([delta], [AMOUNT], change=record)], residual=False)
    steps = [torch.cat(parts) for parts in by_step.values()]
    pairs = [F.cosine_similarity(one, other, dim=1) for one, other in pairwise(steps)]
    return torch.stack(pairs).mean(dim=0).tolist()
