"""Automatic masks from the attention maps of words, or from the difference of the predictions under two prompts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from sfumato.api.extra import described_extra, extra_of
from sfumato.api.group import Group
from sfumato.api.region_arguments import Region
from sfumato.core.condition import Condition
from sfumato.errors import BadInput
from sfumato.models.attention import Layers
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.models.text import read
from sfumato.shifts.diffedit import above, disagreement
from sfumato.shifts.regions import maps_of_words
from sfumato.shifts.words import word_mask


@dataclass(frozen=True, eq=False)
class Found:
    """The region of one edit.

    Attributes:
        cells: 1 inside and 0 outside, at the resolution of the latents.
        weights: weights of pixels [h,w] at the full size of the image, with soft borders if the image is edited at
            another size.
    """

    cells: Float[Tensor, "1 h w"]
    weights: NDArray[np.float32]


def check_region(network: DiffusionModel, wanted: Region, sources: Sequence[str], targets: Sequence[str]) -> None:
    """Check that a region fits the model and the prompts.

    Args:
        network: the model.
        wanted: definition of the region.
        sources: source prompt of every image.
        targets: target prompt of every image.

    Raises:
        BadInput: the model has no text input or no cross-attention, a word is in neither prompt of an image, or the two
            prompts of a difference are equal.
    """
    if not network.text_encoders:
        raise BadInput("A region by mask_words or mask_difference needs a model with text input: give a mask instead.")
    if not wanted.words and any(source == target for source, target in zip(sources, targets, strict=True)):
        raise BadInput("mask_difference needs a target prompt that differs from the source prompt: give another one.")
    if not wanted.words:
        return
    Layers(cross=True).of(network.unet)
    before, after = (read(network.text_encoders, texts) for texts in (sources, targets))
    if not before or not after:
        raise BadInput(
            "The two text encoders of this model split prompts differently, so words have no unique position: give a "
            "mask or mask_difference instead of mask_words."
        )
    for source, target in zip(before, after, strict=True):
        for word in wanted.words:
            if not source.has(word) and not target.has(word):
                raise BadInput(
                    f'The word "{word}" of mask_words is in neither prompt: the words of the source prompt are '
                    f"{source.listed()}, those of the target prompt {target.listed()}."
                )


def find(
    wanted: Region,
    group: Group,
    rows: Sequence[int],
    target: Condition,
    texts: Sequence[str],
    batch: int | None,
) -> list[Found]:
    """Compute the region of every edit; maps are computed once and cached in `group.maps`.

    Args:
        wanted: definition of the region.
        group: the images.
        rows: rows of the group, one per edit.
        target: condition of the target prompts, one row per edit.
        texts: target prompts, one per edit.
        batch: maximum number of rows per forward pass; None for the default.

    Returns:
        One region per edit.

    Raises:
        BadInput: the region is empty in one of the images.
    """
    if wanted.words:
        cells = _of_words(wanted, group, rows, target, batch)
    else:
        cells = _of_difference(wanted, group, rows, target, texts, batch)
    masks = enlarged(cells, group.network.factor, group.size)
    if not all(mask.any() for mask in masks):
        what = f"The words {', '.join(wanted.words)}" if wanted.words else "The difference of the prompts"
        raise BadInput(f"{what} gave no region at the threshold {wanted.threshold:g}: lower mask_threshold.")
    return [Found(own.cpu(), at_size(mask, group.full_size)) for own, mask in zip(cells, masks, strict=True)]


def _of_words(
    wanted: Region, group: Group, rows: Sequence[int], target: Condition, batch: int | None
) -> Float[Tensor, "b 1 h w"]:
    """Union of the regions of the words under the source and the target prompt, if these contain a word."""
    condition, image_rows = Condition.cat([group.condition[rows], target]), [*rows, *rows]
    prompts, extras = condition.prompts, _extra_keys(group.network, condition)
    keys = [(row, prompts[n].text, wanted.words, *extras[n]) for n, row in enumerate(image_rows)]
    named = [n for n, prompt in enumerate(condition.prompts) if any(map(prompt.has, wanted.words))]
    new = list({keys[n]: n for n in named if keys[n] not in group.maps}.values())
    if new:
        inversion = group.inversion.rows([image_rows[n] for n in new])
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
    """Region where the predictions under the two prompts differ by more than the threshold, at half of the run."""
    extras = _extra_keys(group.network, target)
    keys = [(row, texts[n], *extras[n]) for n, row in enumerate(rows)]
    new = list({key: n for n, key in enumerate(keys) if key not in group.maps}.values())
    if new:
        inversion = group.inversion.rows([rows[n] for n in new])
        t, seeds = inversion.timesteps[inversion.steps // 2], inversion.seeds or (0,) * len(new)
        source = group.condition[[rows[n] for n in new]]
        found = disagreement(group.network, inversion.x0, source, target[new], t=t, seeds=seeds, batch=batch)
        group.maps |= zip((keys[n] for n in new), found, strict=True)
    return above(torch.stack([group.maps[key] for key in keys]), wanted.threshold)


def _extra_keys(network: DiffusionModel, condition: Condition) -> list[tuple[tuple[str, Any], ...]]:
    """The maps and labels of every image as a part of its key in `Group.maps`."""
    extra = extra_of(network, condition)
    return [tuple(described_extra(extra[n]).items()) for n in range(len(extra))]


def enlarged(cells: Tensor, factor: int, size: tuple[int, int]) -> list[NDArray[np.float32]]:
    """Upsample masks [b,1,h,w] of latents to pixels [height,width] by repetition; cropped to `size` (width, height)."""
    pixels = cells.repeat_interleave(factor, -2).repeat_interleave(factor, -1)[:, 0, : size[1], : size[0]]
    return [np.asarray(each > 0, dtype=np.float32) for each in pixels.cpu().numpy()]


def at_size(weights: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Resize a mask [h,w] linearly to `size` (width, height), rounded to 1/255; unchanged if it has that size."""
    if weights.shape == size[::-1]:
        return weights
    cells = torch.from_numpy(weights)[None, None]
    found = F.interpolate(cells, size=size[::-1], mode="bilinear", align_corners=False, antialias=True)
    return np.asarray((found[0, 0] * 255).round() / 255)
