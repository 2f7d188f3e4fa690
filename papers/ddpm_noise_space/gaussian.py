"""The paper's two-dimensional illustration: data N((10, 10), I), whose optimal denoiser has a closed form.

With unit covariance x_t is distributed as N(sqrt(abar_t) m, I) at every level, so y_t = x_t - sqrt(abar_t) m is a
stationary process. For eta = 1 the step's mean is y_{t-1} = sqrt(alpha_t) y_t, where alpha_t = abar_t / abar_{t-1},
and r_t = y_{t-1} - sqrt(alpha_t) y_t = sigma_t z_t. From this follow the variance and the correlation of the z_t:

    native:         var r_t = 1 - alpha_t                                             cov(r_t, r_{t-1}) = 0
    edit-friendly:  var r_t = abar_{t-1} (1 - alpha_t)^2 + 1 - abar_{t-1} + alpha_t (1 - abar_t)
                    cov(r_t, r_{t-1}) = sqrt(abar_{t-1} abar_{t-2}) (1 - alpha_t) (1 - alpha_{t-1})
                                        - sqrt(alpha_{t-1}) (1 - abar_{t-1})

per coordinate, over points x_0 drawn from the data. sigma_t is the smaller of DDPM's two choices, so the native
variance of z_t is (1 - abar_t) / (1 - abar_{t-1}), which is 1 except for the last few steps.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from papers.ddpm_noise_space.noise_maps import correlations, variances
from sfumato.core.condition import Condition
from sfumato.core.guidance import classifier_free
from sfumato.core.noise import gaussian
from sfumato.core.schedule import Schedule
from sfumato.core.state import NetworkTap, StepEnd
from sfumato.core.step import per_row, sigma
from sfumato.inversion import invert_edit_friendly, invert_native

CENTRE = 10.0
INVERSIONS = {"native": invert_native, "edit-friendly": invert_edit_friendly}


@dataclass(frozen=True)
class GaussianDenoiser:
    """E[e | x_t] = sqrt(1 - abar_t) (x_t - sqrt(abar_t) m) for data N(m, I); a latent [b,2,n,1] holds n points."""

    schedule: Schedule

    def predict(self, x: Tensor, t: int | Tensor, cond: Condition, taps: Sequence[NetworkTap] | None = None) -> Tensor:
        """The optimal prediction of the noise; `cond` and `taps` are ignored."""
        rows = [t] * len(x) if isinstance(t, int) else t.tolist()
        abar = per_row([self.schedule.abar(each) for each in rows], x).to(x.dtype)
        return (1 - abar).sqrt() * (x - abar.sqrt() * CENTRE)


def linear_schedule() -> Schedule:
    """DDPM's linear betas (Ho et al., arXiv 2006.11239, section 4); the last step goes to abar = 1."""
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    return Schedule(torch.cumprod(1 - betas, 0))


def trajectories(kind: str, points: int, steps: int, seed: int = 0) -> list[StepEnd]:
    """All steps of the inversion of `points` points drawn from the data, from x_T on."""
    x0 = CENTRE + gaussian((2, points, 1), seed, tag="points")[None]
    guided = classifier_free(GaussianDenoiser(linear_schedule()), None, (1.0,))
    return list(INVERSIONS[kind](guided, x0, Condition(rows=1), steps=steps, seeds=[seed]))


def expected_variances(kind: str, schedule: Schedule, timesteps: list[int]) -> list[float]:
    """Variance of z_t at every step that adds noise, from the closed form."""
    values = []
    for abar, abar_prev in _levels(schedule, timesteps):
        alpha, deviation = abar / abar_prev, sigma(abar, abar_prev, 1.0)
        native = 1 - alpha
        friendly = abar_prev * native**2 + 1 - abar_prev + alpha * (1 - abar)
        values.append((native if kind == "native" else friendly) / deviation**2)
    return values


def expected_correlations(kind: str, schedule: Schedule, timesteps: list[int]) -> list[float]:
    """Correlation of z_t with the z of the step after it, from the closed form."""
    levels = _levels(schedule, timesteps)
    variance = expected_variances(kind, schedule, timesteps)
    values = []
    for i, ((abar, abar_prev), (_, abar_last)) in enumerate(pairwise(levels)):
        alpha, alpha_next = abar / abar_prev, abar_prev / abar_last
        covariance = math.sqrt(abar_prev * abar_last) * (1 - alpha) * (1 - alpha_next)
        covariance -= math.sqrt(alpha_next) * (1 - abar_prev)
        scale = sigma(abar, abar_prev, 1.0) * sigma(abar_prev, abar_last, 1.0)
        values.append(0.0 if kind == "native" else covariance / scale / math.sqrt(variance[i] * variance[i + 1]))
    return values


def angles(states: list[StepEnd]) -> Tensor:
    """Angles in degrees between noise vectors of consecutive steps, [pairs, points]; 90 on average if uncorrelated."""
    vectors = torch.stack([_displacement(state) for state in states if state.sigma > 0])
    a, b = vectors[:-1], vectors[1:]
    cross = a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
    return torch.rad2deg(torch.atan2(cross.abs(), (a * b).sum(-1)))


def measure(points: int, steps: int) -> dict[str, Any]:
    """Variance, correlation and angles of both inversions, with their closed forms."""
    schedule = linear_schedule()
    timesteps = schedule.timesteps(steps)
    numbers: dict[str, Any] = {"points": points, "steps": steps, "timesteps": timesteps[:-1]}
    for kind in INVERSIONS:
        states = trajectories(kind, points, steps)
        z = [state.z.flatten() for state in states if state.sigma > 0 and state.z is not None]
        numbers[kind] = {
            "variance": variances(z),
            "expected_variance": expected_variances(kind, schedule, timesteps),
            "correlation": correlations(z),
            "expected_correlation": expected_correlations(kind, schedule, timesteps),
            "mean_angle_degrees": float(angles(states).mean()),
            "obtuse_share": float((angles(states) > 90).double().mean()),
        }
    return numbers


def draw(path: Path, numbers: dict[str, Any], steps: int) -> None:
    """Draw one trajectory of each inversion, and the statistics of many with their closed forms."""
    figure = Figure(figsize=(13, 8.4), layout="constrained")
    rows = figure.add_gridspec(2, 1, height_ratios=(1.5, 1))
    left, right = rows[0].subgridspec(1, 2).subplots(sharex=True, sharey=True, squeeze=False)[0]
    for axes, kind in ((left, "native"), (right, "edit-friendly")):
        _draw_trajectory(axes, trajectories(kind, 1, steps))
        angle = f"mean angle {numbers[kind]['mean_angle_degrees']:.0f}° over {numbers['steps']} steps"
        axes.set_title(f"{kind} inversion, {steps} steps; {angle}")
    variance, correlation = rows[1].subgridspec(1, 2).subplots(squeeze=False)[0]
    for kind, colour in (("native", "tab:green"), ("edit-friendly", "tab:purple")):
        t = numbers["timesteps"]
        variance.plot(t, numbers[kind]["expected_variance"], color=colour, lw=1, label=f"{kind}, closed form")
        variance.plot(
            t, numbers[kind]["variance"], ".", color=colour, ms=4, label=f"{kind}, {numbers['points']} points"
        )
        correlation.plot(t[:-1], numbers[kind]["expected_correlation"], color=colour, lw=1)
        correlation.plot(t[:-1], numbers[kind]["correlation"], ".", color=colour, ms=4)
    variance.set(yscale="log", xlabel="t", ylabel="variance of $z_t$", title=f"{numbers['steps']} steps")
    correlation.set(xlabel="t", ylabel="correlation of consecutive $z_t$", ylim=(-1, 1))
    variance.legend(fontsize=8)
    for axes in (variance, correlation):
        axes.invert_xaxis()
    figure.savefig(path, dpi=110)


def _draw_trajectory(axes: Axes, states: list[StepEnd]) -> None:
    style = {"angles": "xy", "scale_units": "xy", "scale": 1, "width": 0.004, "zorder": 2}
    starts = torch.stack([state.x_t[0, :, 0, 0].double() for state in states])
    means = torch.stack([state.mean[0, :, 0, 0] for state in states])
    towards, noise = means - starts, torch.stack([_displacement(state)[0] for state in states])
    axes.quiver(*starts.T, *towards.T, color="tab:blue", label=r"to the mean $\mu_t(x_t)$", **style)
    axes.quiver(*means.T, *noise.T, color="tab:red", label=r"noise $\sigma_t z_t$", **style)
    end = means[-1] + noise[-1]
    axes.plot(*starts[0], "ko", ms=7, label="$x_T$")
    axes.plot(*end, "k*", ms=11, label="$x_0$", zorder=3)
    for radius in (1, 2):
        turn = torch.linspace(0, 2 * math.pi, 100)
        axes.plot(CENTRE + radius * turn.cos(), CENTRE + radius * turn.sin(), color="0.75", lw=1, zorder=1)
    axes.set_aspect("equal")
    axes.legend(fontsize=8, loc="upper left")


def _levels(schedule: Schedule, timesteps: list[int]) -> list[tuple[float, float]]:
    """(abar_t, abar_{t-1}) of every step that adds noise."""
    below = schedule.previous(timesteps)
    levels = [(schedule.abar(t), schedule.abar(t_prev)) for t, t_prev in zip(timesteps, below, strict=True)]
    return [(abar, abar_prev) for abar, abar_prev in levels if sigma(abar, abar_prev, 1.0) > 0]


def _displacement(state: StepEnd) -> Tensor:
    """The noise of the step, x_{t-1} - mu_t, [points, 2]."""
    return (state.x_prev.double() - state.mean)[0, :, :, 0].T
