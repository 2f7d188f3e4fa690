"""Local bases over time: singular values, overlap of directions between samples, and frequencies of v_i."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from papers.latent_geometry.study import Study
from sfumato.core.noise import gaussian_batch
from sfumato.geometry import local_basis, power_spectrum
from sfumato.geometry.matching import assign

LEADING = 10
"""Number of directions that count as having large singular values."""
LOW = 0.125
"""Bound of low frequencies in cycles per latent position: a quarter of the highest along an axis."""
VERSION = 3
"""Version of the measurement: stored results of another version are measured again."""


def measure(study: Study) -> dict[str, Any]:
    """Statistics of the local bases at every time, and the overlap of the same number of random bases."""
    times, chance = [at(study, time) for time in study.size.times], _chance(study)
    return {
        "times": times,
        "chance": chance.mean(dim=0).tolist(),
        "leading_chance": chance[:, :LEADING].mean(dim=1).tolist(),
    }


def at(study: Study, time: float) -> dict[str, Any]:
    """Statistics of the bases of all samples at one time."""
    rows = range(study.size.samples)
    f, n = study.map(rows, time, study.size.n)
    basis = local_basis(f, study.latents(len(rows), time), n)
    values = basis.values.double()
    overlap = _overlap(basis.u)
    leading = basis.v[:, :LEADING].flatten(0, 1)
    spectrum = power_spectrum(leading)
    return {
        "time": time,
        "timestep": f.t,
        "spectrum": (values / values[:, :1]).mean(dim=0).tolist(),
        "effective_dimension": (values.square().sum(1).square() / values.pow(4).sum(1)).tolist(),
        "overlap": overlap.mean(dim=0).tolist(),
        "leading_overlap": overlap[:, :LEADING].mean(dim=1).tolist(),
        "frequency": spectrum.frequency.tolist(),
        "density": spectrum.density.mean(dim=0).tolist(),
        "low_share": spectrum.share_below(LOW).unflatten(0, (len(rows), -1)).mean(dim=1).tolist(),
    }


def _overlap(u: Tensor) -> Tensor:
    """|cos| of matched directions, by rank in the first sample of the pair, [pairs,n].

    Every sample is in at most one pair, so that the pairs are independent.
    """
    return torch.stack([assign(u[k], u[k + 1])[1].abs() for k in range(0, len(u) - 1, 2)])


def _chance(study: Study) -> Tensor:
    """Overlap of random bases of the same number and dimensions, [pairs,n]."""
    f, n = study.map([0], 1.0, study.size.n)
    d = torch.Size(f.h_shape(*study.latent[1:])).numel()
    random = gaussian_batch((d, n), list(range(study.size.samples)), tag="chance", dtype=torch.float64)
    return _overlap(torch.linalg.qr(random)[0].mT)


def draw(path: Path, numbers: dict[str, Any]) -> None:
    """Draw singular values, overlap and power spectral density in three panels, with one line per time."""
    figure = Figure(figsize=(14, 4), layout="constrained")
    spectra, overlap, density = figure.subplots(1, 3)
    for each, colour in zip(numbers["times"], colours(len(numbers["times"])), strict=True):
        label = f"t = {each['time']:g} T"
        rank = range(1, len(each["spectrum"]) + 1)
        spectra.plot(rank, each["spectrum"], color=colour, label=label)
        overlap.plot(rank, each["overlap"], color=colour, label=label)
        power = torch.tensor(each["density"])
        density.plot(each["frequency"], (power / power.sum()).tolist(), color=colour, label=label)
    overlap.plot(range(1, len(numbers["chance"]) + 1), numbers["chance"], color="0.6", linestyle=":", label="chance")
    spectra.set(yscale="log", xlabel="rank i", title="singular values, lambda_i / lambda_1")
    overlap.set(ylim=(0, 1), xlabel="rank i", title="|cos| of directions matched between samples")
    density.set(yscale="log", xlabel="cycles per latent position", title="power spectral density of v_i, share")
    for axes in (spectra, overlap, density):
        axes.legend()
    figure.savefig(path, dpi=110)


def colours(count: int) -> Sequence[Any]:
    """One colour for each of `count` times."""
    from matplotlib import colormaps

    return [colormaps["viridis"](0.9 * k / max(1, count - 1)) for k in range(count)]
