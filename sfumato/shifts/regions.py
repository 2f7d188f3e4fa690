"""Localisation of words in an image before an edit, by cross-attention maps at the latents of its inversion."""

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
"""Maximum number of latents to evaluate, from the middle part of the run, where the maps localise words best."""


@torch.no_grad()
def maps_of_words(
    network: DiffusionModel,
    inversion: Inversion,
    condition: Condition,
    words: Sequence[str],
    batch: int | None = None,
) -> Float[Tensor, "b 1 h w"]:
    """Compute cross-attention maps of words, summed over words, layers and steps; `word_mask` gives a mask from them.

    Args:
        network: the network; it is evaluated without guidance, on up to `LEVELS` rows per image.
        inversion: the inversion at whose recorded latents the network is evaluated.
        condition: the prompts, one row per image; a prompt that contains none of the words gives a map of zeros.
        words: the words or phrases to locate.
        batch: maximum number of rows per forward pass, but at least one per image; None for the default.

    Returns:
        Maps at the resolution of the attention layers, [b, 1, h, w].
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
    """Return the indices of up to `LEVELS` equally spaced steps from one fifth to four fifths of a run."""
    first, last = steps // 5, max(steps // 5, 4 * steps // 5 - 1)
    return sorted({round(first + (last - first) * k / (LEVELS - 1)) for k in range(LEVELS)})
