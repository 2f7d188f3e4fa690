"""Masks that nobody has to paint: where some words are, or where the two prompts disagree."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sfumato.errors import BadInput
from sfumato.inversion import Inversion
from sfumato.models.condition import Condition
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.models.text import read
from sfumato.shifts.diffedit import above, disagreement
from sfumato.shifts.regions import region_of_words

WORDS, DIFFERENCE = 0.3, 1.5
"""Thresholds: share of the range of the words' maps (Prompt-to-Prompt), and multiple of the mean (DiffEdit)."""


@dataclass(frozen=True)
class Region:
    """What bounds an edit.

    Attributes:
        words: words of either prompt; () for where the predictions under the two prompts differ (DiffEdit).
        threshold: see `WORDS` and `DIFFERENCE`.
    """

    words: tuple[str, ...]
    threshold: float


def region(words: str, difference: bool, threshold: float | None) -> Region | None:
    """What callers give as a region, or None for no region.

    Raises:
        BadInput: both kinds at once, a threshold without a region or out of range, or no word.
    """
    if words and difference:
        raise BadInput("Find the region by words or by the difference of the prompts, not both.")
    if not words and not difference:
        if threshold is not None:
            raise BadInput("mask_threshold belongs to mask_words or mask_difference: give one of them.")
        return None
    named = tuple(part.strip() for part in words.split(",")) if words else ()
    if not all(named):
        raise BadInput(
            f'mask_words must be words between commas, like "cat,dog", not "{words}": leave out what is empty.'
        )
    chosen = (WORDS if words else DIFFERENCE) if threshold is None else threshold
    high = 1.0 if words else 100.0
    if isinstance(chosen, bool) or not isinstance(chosen, int | float) or not 0 < chosen < high:
        raise BadInput(f"mask_threshold must be above 0 and below {high:g}, not {threshold!r}.")
    return Region(named, float(chosen))


def check_region(network: DiffusionModel, wanted: Region, sources: Sequence[str], targets: Sequence[str]) -> None:
    """Refuse a region for a model without text, words that neither of a picture's prompts has, and equal prompts.

    Raises:
        BadInput: names the word and those that there are.
    """
    if not network.towers:
        raise BadInput("A region by words or by the difference of the prompts needs a model with text input.")
    if not wanted.words and any(source == target for source, target in zip(sources, targets, strict=True)):
        raise BadInput("Where prompts disagree cannot be asked of the same prompt twice: give another target prompt.")
    for source, target in zip(read(network.towers, sources), read(network.towers, targets), strict=True):
        for word in wanted.words:
            if not source.has(word) and not target.has(word):
                raise BadInput(
                    f'The word "{word}" of mask_words is in neither prompt: the source has {source.listed()}, '
                    f"the target {target.listed()}."
                )


def find(
    wanted: Region,
    network: DiffusionModel,
    inversion: Inversion,
    source: Condition,
    target: Condition,
    size: tuple[int, int],
) -> list[NDArray[np.bool_]]:
    """The region of every row as a mask bool [h,w]; `size` is (width, height) in pixels.

    Raises:
        BadInput: nothing was found in one of the pictures.
    """
    if wanted.words:
        regions = [
            region_of_words(network, inversion, each, wanted.words, wanted.threshold) for each in (source, target)
        ]
        cells = regions[0].maximum(regions[1])
    else:
        t = inversion.timesteps[len(inversion.timesteps) // 2]
        seeds = inversion.seeds or (0,) * len(inversion.x0)
        cells = above(disagreement(network, inversion.x0, source, target, t=t, seeds=seeds), wanted.threshold)
    masks = enlarged(cells, network.factor, size)
    if not all(mask.any() for mask in masks):
        what = f"the words {', '.join(wanted.words)}" if wanted.words else "the difference of the prompts"
        raise BadInput(f"{what} gave no region at the threshold {wanted.threshold:g}: lower mask_threshold.")
    return masks


def enlarged(cells: Tensor, factor: int, size: tuple[int, int]) -> list[NDArray[np.bool_]]:
    """Latent cells [b,1,h,w] as pixels, cropped to (width, height)."""
    pixels = cells.repeat_interleave(factor, -2).repeat_interleave(factor, -1)[:, 0, : size[1], : size[0]]
    return [np.asarray(each > 0) for each in pixels.cpu().numpy()]
