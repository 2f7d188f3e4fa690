"""The mask of DiffEdit (Couairon et al., ICLR 2023, arXiv 2210.11427, section 3.2, step 1).

Noise is added to the image at one timestep, and the network predicts it under both prompts. The absolute difference of
the two predictions, averaged over channels and several draws e of the noise, is large where the image must change to
match the target prompt:

    d = mean_{e, channels} |eps(x_t, t, c_target) - eps(x_t, t, c_source)|
    x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) e
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.batching import rows_per_call
from sfumato.core.condition import Condition
from sfumato.core.noise import gaussian_batch
from sfumato.core.rows import SOURCE, TARGET, Rows
from sfumato.core.state import Denoiser
from sfumato.core.step import diffuse


@torch.no_grad()
def disagreement(
    network: Denoiser,
    x0: Float[Tensor, "b c h w"],
    source: Condition,
    target: Condition,
    *,
    t: int,
    seeds: Sequence[int],
    draws: int = 10,
    batch: int | None = None,
) -> Float[Tensor, "b 1 h w"]:
    """Compute the mean absolute difference between the predicted noises under the two prompts.

    The network is evaluated without guidance. With the same negative prompt for both, a guidance scale s would only
    multiply the difference by s, which does not change the mask of `above`, and would double the cost.

    Args:
        network: the network without guidance; it is evaluated on 2 * draws rows per image.
        x0: clean latents.
        source: condition of the source prompts, one row per image.
        target: condition of the target prompts, one row per image.
        t: timestep of the noise; the paper uses half of the schedule.
        seeds: one per image.
        draws: number of noises to average over; the paper uses 10.
        batch: maximum number of rows per forward pass, but at least 2 per image; None for the default.
    """
    abar, images = network.schedule.abar(t), len(x0)
    together = max(1, (batch or rows_per_call(*x0.shape[1:])) // (2 * images))
    total = torch.zeros_like(x0[:, :1])
    for first in range(0, draws, together):
        which = range(first, min(draws, first + together))
        x = torch.cat([_noised(x0, abar, seeds, draw, t) for draw in which])
        rows = list(range(images)) * len(which)
        both = Condition.join({SOURCE: source[rows], TARGET: target[rows]})
        eps, layout = network.predict(x.repeat(2, 1, 1, 1), t, both), Rows.of_evaluation(both, 2 * len(x))
        difference = (eps[layout.of(TARGET)] - eps[layout.of(SOURCE)]).abs().mean(dim=1, keepdim=True)
        total += difference.unflatten(0, (len(which), images)).sum(dim=0)
    return total / draws


def _noised(x0: Tensor, abar: float, seeds: Sequence[int], draw: int, t: int) -> Tensor:
    e = gaussian_batch(x0.shape[1:], seeds, step=t, tag=f"diffedit-{draw}", device=x0.device)
    return diffuse(x0, e, abar).to(x0.dtype)


def above(difference: Float[Tensor, "b 1 h w"], ratio: float = 1.5) -> Float[Tensor, "b 1 h w"]:
    """Return a mask: 1 where the difference exceeds `ratio` times its mean over the image, 0 elsewhere.

    diffusers clamps at `mask_thresholding_ratio` = 3 times the mean (of the complete batch) and thresholds at half of
    that value.
    """
    return (difference > ratio * difference.mean(dim=(1, 2, 3), keepdim=True)).float()
