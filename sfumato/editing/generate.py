"""Generation of new images: the reverse process from noise (DDPM, arXiv 2006.11239; DDIM, arXiv 2010.02502)."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sfumato.options.option import option
from sfumato.options.params import Params

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from sfumato.core.condition import Condition
    from sfumato.core.guidance import Guided
    from sfumato.core.shift import Shift
    from sfumato.core.state import StepEnd


@dataclass(frozen=True)
class GenerateParams(Params):
    """Common settings for Stable Diffusion: 50 DDIM steps."""

    steps: int = option(50, "number of steps of the run", stage="generate", low=1, high=1000)
    guidance_scale: float = option(7.5, "guidance scale of the prompt", stage="generate", low=0, high=100)
    eta: float = option(0.0, "noise added in every step, from 0 (DDIM) to 1 (DDPM)", stage="generate", low=0, high=1)


def first_latent(
    guided: Guided, shape: tuple[int, int, int], seeds: Sequence[int], device: torch.device | str = "cpu"
) -> Tensor:
    """Draw x_T ~ N(0, I), [b,c,h,w], one row per seed.

    Args:
        guided: the network; only its schedule is used.
        shape: shape (c, h, w) of one latent.
        seeds: one per image.
        device: device of the latents.
    """
    from sfumato.core.noise import gaussian_batch

    return gaussian_batch(shape, seeds, step=len(guided.schedule), tag="generate", device=device)


def generate(
    guided: Guided,
    shape: tuple[int, int, int],
    condition: Condition,
    params: GenerateParams,
    *,
    seeds: Sequence[int],
    device: torch.device | str = "cpu",
    shifts: Sequence[Shift] = (),
    path: Sequence[int] = (),
) -> Iterator[StepEnd]:
    """Yield the steps from x_T ~ N(0, I) to x_0, one row per seed; all noise is a function of (seed, t, visit).

    Args:
        guided: the network with its guidance, one row per image.
        shape: shape (c, h, w) of one latent.
        condition: condition of the prompts, one row per image.
        params: parameters of the run.
        seeds: one per image.
        device: device of the latents.
        shifts: shifts of the reverse process, in order.
        path: noise levels in the order in which the run visits them (`sfumato.core.path`); each once by default.
    """
    from sfumato.core.loop import fresh_noise, reverse
    from sfumato.shifts.sample_range import ClipSample

    schedule = guided.schedule
    within = [] if schedule.sample_range is None else [ClipSample(schedule.sample_range)]
    yield from reverse(
        guided,
        first_latent(guided, shape, seeds, device),
        schedule.timesteps(params.steps),
        condition,
        eta=params.eta,
        noise_maps=fresh_noise(seeds),
        shifts=[*shifts, *within],
        path=path,
        seeds=seeds,
    )


def recorded(steps: Iterator[StepEnd]) -> Generator[StepEnd, None, dict[int, Tensor]]:
    """Yield the steps of a run; return its latents x_t, [b,c,h,w], by timestep, in the order of the run."""
    latents = {}
    for step in steps:
        latents[step.t] = step.x_t
        yield step
    return latents
