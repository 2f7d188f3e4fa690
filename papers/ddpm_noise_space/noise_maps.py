"""Variance of the noise maps and correlation of consecutive ones (figure 4 of the paper), on real images."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from sfumato.api import Inverted, Model
from sfumato.core.noise import gaussian_batch
from sfumato.core.schedule import Schedule
from sfumato.core.step import sigma

COLOURS = {"edit-friendly": "tab:purple", "native": "tab:green", "sampling": "0.5"}


def variances(z: Sequence[Tensor]) -> list[float]:
    """Variance of the values of each step's noise map."""
    return [float(each.double().var(correction=0)) for each in z]


def correlations(z: Sequence[Tensor]) -> list[float]:
    """Pearson correlation of the values of each step's noise map with those of the next step."""
    return [float(torch.corrcoef(torch.stack([a.double(), b.double()]))[0, 1]) for a, b in pairwise(z)]


def noisy_timesteps(schedule: Schedule, timesteps: Sequence[int], eta: float) -> list[int]:
    """The timesteps whose step adds noise; the last step may add none, and its map is then a residual."""
    below = schedule.previous(timesteps)
    pairs = zip(timesteps, below, strict=True)
    return [t for t, t_prev in pairs if sigma(schedule.abar(t), schedule.abar(t_prev), eta) > 0]


def measure(
    model: Model, images: Sequence[Any], prompts: Sequence[str], *, steps: int, source_guidance_scale: float
) -> dict[str, Any]:
    """Statistics per step of both inversions of the same images, and of the noise that sampling draws."""
    options: dict[str, Any] = {"steps": steps, "eta": 1.0, "source_guidance_scale": source_guidance_scale}
    seeds = list(range(len(images)))
    numbers: dict[str, Any] = {"images": len(images), **options}
    for name, method in (("edit-friendly", "edit-friendly"), ("native", "native-ddpm")):
        inverted = model.invert(list(images), list(prompts), method=method, seed=seeds, **options)
        timesteps = noisy_timesteps(model.network.schedule, inverted.groups[0].inversion.timesteps, 1.0)
        numbers["timesteps"] = timesteps
        numbers[name] = _per_step(_pooled(inverted, len(timesteps)))
    shape = inverted.groups[0].inversion.x0.shape[1:]
    drawn = [gaussian_batch(shape, seeds, step=t, tag="reverse").flatten() for t in timesteps]
    numbers["sampling"] = _per_step(drawn)
    return numbers


def draw(path: Path, numbers: dict[str, Any]) -> None:
    """Draw variance and correlation of every step for the three kinds of noise maps."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    variance, correlation = figure.subplots(1, 2)
    for name, colour in COLOURS.items():
        variance.plot(numbers["timesteps"], numbers[name]["variance"], color=colour, label=name)
        correlation.plot(numbers["timesteps"][:-1], numbers[name]["correlation"], color=colour, label=name)
    variance.set(yscale="log", xlabel="t", ylabel="variance of $z_t$")
    correlation.set(xlabel="t", ylabel="correlation of consecutive $z_t$", ylim=(-1, 1))
    correlation.axhline(0, color="0.8", lw=0.8, zorder=0)
    for axes in (variance, correlation):
        axes.invert_xaxis()
        axes.legend()
    what = f"{numbers['images']} images, {numbers['steps']} steps, source guidance {numbers['source_guidance_scale']:g}"
    figure.suptitle(f"Noise maps of real images: {what}", fontsize=11)
    figure.savefig(path, dpi=110)


def _pooled(inverted: Inverted, steps: int) -> list[Tensor]:
    """z_t of all images, flattened into one row per step; images may have different sizes."""
    maps = [group.inversion.z for group in inverted.groups if group.inversion.z is not None]
    return [torch.cat([z[i].flatten().cpu() for z in maps]) for i in range(steps)]


def _per_step(z: list[Tensor]) -> dict[str, Any]:
    variance, correlation = variances(z), correlations(z)
    return {
        "variance": variance,
        "correlation": correlation,
        "median_variance": float(torch.tensor(variance).median()),
        "mean_correlation": sum(correlation) / len(correlation),
    }
