"""Frequencies of x_0 that a direction changes, by t: power spectral density of x_0(x_t + gamma v) - x_0(x_t)."""

from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from papers.latent_geometry.local import LOW, colours
from papers.latent_geometry.study import Study
from sfumato.core.step import predict_x0
from sfumato.geometry import local_basis, power_spectrum

VERSION = 2
"""Version of the measurement: stored results of another version are measured again."""


def measure(study: Study) -> dict[str, Any]:
    """Measure the first direction with both signs at every time, without normalisation, whose gain depends on t."""
    count = min(study.size.samples, 12)
    times = [_at(study, count, time) for time in study.size.times]
    return {"times": times, "samples": count}


@torch.no_grad()
def _at(study: Study, count: int, time: float) -> dict[str, Any]:
    rows = range(count)
    f, n = study.map(rows, time, 1)
    x = study.latents(count, time)
    v = local_basis(f, x, n).v[:, 0]
    before = _x0(study, x, rows, f.t)
    changes = [_x0(study, x + sign * study.size.gamma * v, rows, f.t) - before for sign in (-1, 1)]
    spectrum = power_spectrum(torch.cat(changes))
    return {
        "time": time,
        "timestep": f.t,
        "frequency": spectrum.frequency.tolist(),
        "density": spectrum.density.mean(dim=0).tolist(),
        "low_share": spectrum.share_below(LOW).unflatten(0, (2, count)).mean(dim=0).tolist(),
    }


def _x0(study: Study, x: Tensor, rows: range, t: int) -> Tensor:
    """The prediction of x_0 at t, with guidance."""
    eps = study.guidance(rows).predict(x, t, study.condition(rows))
    return predict_x0(x, eps, study.model.network.schedule.abar(t))


def draw(path: Path, numbers: dict[str, Any]) -> None:
    """Draw the power spectral density, normalised to a sum of 1, with one line per time."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for each, colour in zip(numbers["times"], colours(len(numbers["times"])), strict=True):
        power = torch.tensor(each["density"])
        label = f"t = {each['time']:g} T"
        axes.plot(each["frequency"], (power / power.sum()).tolist(), color=colour, label=label)
    axes.set(yscale="log", xlabel="cycles per latent position", title="power spectral density of the change of x_0")
    axes.legend()
    figure.savefig(path, dpi=110)
