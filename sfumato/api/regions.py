"""Masks that nobody has to paint: where some words are, or where the two prompts disagree."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from sfumato.api.group import Group
from sfumato.core.condition import Condition
from sfumato.errors import BadInput
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.models.text import read
from sfumato.shifts.diffedit import above, disagreement
from sfumato.shifts.regions import maps_of_words
from sfumato.shifts.words import word_mask

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
    if not network.text_encoders:
        raise BadInput("A region by words or by the difference of the prompts needs a model with text input.")
    if not wanted.words and any(source == target for source, target in zip(sources, targets, strict=True)):
        raise BadInput("Where prompts disagree cannot be asked of the same prompt twice: give another target prompt.")
    if not wanted.words:
        return
    before, after = (read(network.text_encoders, texts) for texts in (sources, targets))
    if not before or not after:
        raise BadInput("The two text encoders of this model split prompts differently, so words have no one place.")
    for source, target in zip(before, after, strict=True):
        for word in wanted.words:
            if not source.has(word) and not target.has(word):
                raise BadInput(
                    f'The word "{word}" of mask_words is in neither prompt: the source has {source.listed()}, '
                    f"the target {target.listed()}."
                )


def find(
    wanted: Region,
    group: Group,
    rows: Sequence[int],
    target: Condition,
    texts: Sequence[str],
    batch: int | None,
) -> list[NDArray[np.bool_]]:
    """The region of every edit as a mask bool [h,w] in pixels; what was looked at once is not looked at again.

    Args:
        wanted: what bounds the edits.
        group: the pictures.
        rows: of the group, one per edit.
        target: what the edits shall show, one row each.
        texts: the same as text.
        batch: most rows in one call of the network.

    Raises:
        BadInput: nothing was found in one of the pictures.
    """
    if wanted.words:
        cells = _of_words(wanted, group, rows, target, batch)
    else:
        cells = _of_difference(wanted, group, rows, target, texts, batch)
    masks = enlarged(cells, group.network.factor, group.size)
    if not all(mask.any() for mask in masks):
        what = f"the words {', '.join(wanted.words)}" if wanted.words else "the difference of the prompts"
        raise BadInput(f"{what} gave no region at the threshold {wanted.threshold:g}: lower mask_threshold.")
    return masks


def _of_words(
    wanted: Region, group: Group, rows: Sequence[int], target: Condition, batch: int | None
) -> Float[Tensor, "b 1 h w"]:
    """Where the words are under the source's prompt or under the target's, of those that have any of them."""
    condition, pictures = Condition.cat([group.condition[rows], target]), [*rows, *rows]
    keys = [(row, prompt.text, wanted.words) for row, prompt in zip(pictures, condition.prompts, strict=True)]
    named = [n for n, prompt in enumerate(condition.prompts) if any(map(prompt.has, wanted.words))]
    new = list({keys[n]: n for n in named if keys[n] not in group.maps}.values())
    if new:
        inversion = group.inversion.rows([pictures[n] for n in new])
        found = maps_of_words(group.network, inversion, condition[new], wanted.words, batch)
        group.maps |= zip((keys[n] for n in new), found, strict=True)
    height, width = group.inversion.x.shape[-2:]
    cells = torch.zeros(len(rows), 1, height, width)
    for n in named:
        region = word_mask(group.maps[keys[n]][None], (height, width), wanted.threshold)[0].cpu()
        cells[n % len(rows)] = cells[n % len(rows)].maximum(region)
    return cells


def _of_difference(
    wanted: Region, group: Group, rows: Sequence[int], target: Condition, texts: Sequence[str], batch: int | None
) -> Float[Tensor, "b 1 h w"]:
    """Where the predictions under the two prompts differ most."""
    keys = [(row, text) for row, text in zip(rows, texts, strict=True)]
    new = list({key: n for n, key in enumerate(keys) if key not in group.maps}.values())
    if new:
        inversion = group.inversion.rows([rows[n] for n in new])
        t, seeds = inversion.timesteps[inversion.steps // 2], inversion.seeds or (0,) * len(new)
        source = group.condition[[rows[n] for n in new]]
        found = disagreement(group.network, inversion.x0, source, target[new], t=t, seeds=seeds, batch=batch)
        group.maps |= zip((keys[n] for n in new), found, strict=True)
    return above(torch.stack([group.maps[key] for key in keys]), wanted.threshold)


def enlarged(cells: Tensor, factor: int, size: tuple[int, int]) -> list[NDArray[np.bool_]]:
    """Latent cells [b,1,h,w] as pixels, cropped to (width, height)."""
    pixels = cells.repeat_interleave(factor, -2).repeat_interleave(factor, -1)[:, 0, : size[1], : size[0]]
    return [np.asarray(each > 0) for each in pixels.cpu().numpy()]
