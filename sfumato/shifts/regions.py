"""Where in a picture some words are, before any edit: their cross-attention maps on the latents of an inversion."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.batching import rows_per_call
from sfumato.core.condition import Condition
from sfumato.inversion import Inversion
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.models.layout import word_layers
from sfumato.shifts.alignment import token_weights
from sfumato.shifts.words import WordMaps

LEVELS = 10
"""Latents of a run that are looked at: those of its middle, where the maps are clearest."""


@torch.no_grad()
def maps_of_words(
    network: DiffusionModel,
    inversion: Inversion,
    condition: Condition,
    words: Sequence[str],
    batch: int | None = None,
) -> Float[Tensor, "b 1 h w"]:
    """How much every cell attends to the words, summed over the run; `sfumato.shifts.words.word_mask` makes the region.

    Args:
        network: asked without guidance, `LEVELS` rows per image.
        inversion: its recorded latents are looked at.
        condition: the prompts that hold the words, one row per image; one without any gets a map of zeros.
        words: what to look for.
        batch: most rows in one call of the network.
    """
    assert condition.tokens is not None
    size = (inversion.x.shape[-2], inversion.x.shape[-1])
    layers, cells = word_layers(network.unet, size)
    images, steps = len(condition), middle(inversion.steps)
    ones = [1.0] * len(words)
    weights = token_weights(condition.prompts, words, ones, condition.tokens.shape[1], 0.0)
    together = max(1, (batch or rows_per_call(*inversion.x.shape[2:])) // images)
    total = torch.zeros(images, 1, *cells, device=inversion.x.device)
    for first in range(0, len(steps), together):
        some = steps[first : first + together]
        maps = WordMaps(layers, weights.repeat(len(some), 1), cells)
        t = torch.tensor([inversion.timesteps[i] for i in some], device=total.device).repeat_interleave(images)
        network.predict(inversion.x[some].flatten(0, 1), t, condition.repeat(len(some)), [maps])
        total += sum(maps.maps.values()).unflatten(0, (len(some), images)).sum(dim=0)
    return total


def middle(steps: int) -> list[int]:
    """Up to `LEVELS` steps of a run, spread over its middle part: from a fifth to four fifths."""
    first, last = steps // 5, max(steps // 5, 4 * steps // 5 - 1)
    return sorted({round(first + (last - first) * k / (LEVELS - 1)) for k in range(LEVELS)})
