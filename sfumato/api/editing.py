"""The work behind `Inverted.edit`."""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sfumato.api.arguments import spread
from sfumato.api.finish import add_residual, grey_levels
from sfumato.api.group import Group, at_once, decoded, guided, padded_size
from sfumato.api.reconstructing import reconstructing
from sfumato.api.regions import Region, find
from sfumato.api.report import moves_of, pair_metrics, parameters, reconstruction_psnr, similarity
from sfumato.api.result import Result
from sfumato.api.run import Progress, following
from sfumato.core.condition import Condition
from sfumato.core.guidance import Guided
from sfumato.core.shift import Shift
from sfumato.core.state import StepState
from sfumato.geometry.edit import Moved, with_moves
from sfumato.images import Picture, pad_to_grid
from sfumato.inversion import Inversion
from sfumato.methods.params import Params
from sfumato.shifts.mask import HoldOutside, to_latent_grid

if TYPE_CHECKING:
    from sfumato.api.inverted import Inverted

Mask: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Batch:
    """Edits that go through the network together: rows of a group, and the results that they become."""

    group: Group
    rows: list[int]
    outputs: list[int]
    condition: Condition
    guidance: Guided


@dataclass(frozen=True, eq=False)
class Order:
    """What one call of `edit` shall do, checked; one entry of every list per result."""

    batches: list[Batch]
    of: list[int]
    pictures: list[Picture]
    prompts: list[str]
    strengths: list[float]
    masks: list[Mask | None]
    region: Region | None
    params: Params
    residual: bool
    check: bool
    negative_prompt: str
    text_features: Tensor | None


def batches(
    inverted: "Inverted", prompts: Sequence[str], strengths: Sequence[float], negative_prompt: str
) -> list[Batch]:
    """The edits by group, as many together as go through the network; encodes the prompts."""
    network = inverted.model.network
    of = spread(list(range(len(inverted))), len(prompts), "picture")
    found = []
    for group in inverted.groups:
        row = {index: row for row, index in enumerate(group.indices)}
        outputs = [j for j, index in enumerate(of) if index in row]
        largest = at_once(group.inversion.x0.shape, inverted.batch)
        size = padded_size(network, group.size)
        for first in range(0, len(outputs), largest):
            some = outputs[first : first + largest]
            condition = network.condition([prompts[j] for j in some], size=size)
            guidance = guided(network, [strengths[j] for j in some], size, negative_prompt)
            found.append(Batch(group, [row[of[j]] for j in some], some, condition, guidance))
    return found


def editing(inverted: "Inverted", order: Order) -> Generator[Progress, None, Result]:
    """Edit batch after batch, yielding after every step."""
    if order.check and inverted.latent_error is None:
        yield from reconstructing(inverted, residual=False)
    pixels: dict[int, NDArray[np.uint8]] = {}
    moves: dict[int, dict[str, Any]] = {}
    for batch in order.batches:
        order = _with_region(order, batch, inverted.batch)
    for n, batch in enumerate(order.batches):
        group, total = batch.group, len(order.batches)
        made: list[Moved] = []
        work = with_moves(_steps(inverted, order, batch), made)
        x0 = yield from following(work, "edit", n, total, batch.outputs, group.network, group.size)
        pixels |= _finished(order, batch, x0)
        moves |= {j: moves_of(made, row) for row, j in enumerate(batch.outputs)}
    edited = [pixels[j] for j in range(len(order.prompts))]
    recipes = [recipe | moves[j] for j, recipe in enumerate(_recipes(inverted, order))]
    report = _report(inverted, order, edited)
    if all(moves.values()):
        report["moves"] = [moves[j]["moves"] for j in range(len(edited))]
    return Result(edited, order.pictures, recipes, report)


def _with_region(order: Order, batch: Batch, most: int | None) -> Order:
    """The masks of a batch narrowed to the region that was asked for."""
    if order.region is None:
        return order
    texts, masks = [order.prompts[j] for j in batch.outputs], list(order.masks)
    regions = find(order.region, batch.group, batch.rows, batch.condition, texts, most)
    for j, found in zip(batch.outputs, regions, strict=True):
        given = masks[j]
        masks[j] = found if given is None else found & given
    return replace(order, masks=masks)


def _steps(inverted: "Inverted", order: Order, batch: Batch) -> Iterator[StepState]:
    inversion = batch.group.inversion.rows(batch.rows)
    shifts = _held(order, batch, inversion)
    return inverted.method.edit(batch.guidance, inversion, batch.condition, order.params, shifts=shifts)


def _held(order: Order, batch: Batch, inversion: Inversion) -> list[Shift]:
    """What keeps the latents outside the masks on the source's."""
    masks = [order.masks[j] for j in batch.outputs]
    if all(mask is None for mask in masks):
        return []
    network, (width, height) = batch.group.network, batch.group.size
    everywhere: Mask = np.ones((height, width), dtype=bool)
    stacked = torch.from_numpy(np.stack([everywhere if mask is None else mask for mask in masks]))
    padded, _ = pad_to_grid(stacked[:, None].float(), network.multiple)
    return [HoldOutside(inversion.x, to_latent_grid(padded, network.factor).to(network.device))]


def _finished(order: Order, batch: Batch, x0: Tensor) -> dict[int, NDArray[np.uint8]]:
    """The batch's results by their place."""
    group = batch.group
    edited = decoded(group.network, x0, group.size)
    if order.residual:
        source, autoencoded = group.source[batch.rows], group.autoencoded[batch.rows]
        edited = add_residual(edited, autoencoded, source, float(max(1, group.network.factor)))
    return {
        j: grey_levels(pixels, group.pictures[row].rgb, order.masks[j])
        for j, row, pixels in zip(batch.outputs, batch.rows, edited, strict=True)
    }


def _report(inverted: "Inverted", order: Order, edited: list[NDArray[np.uint8]]) -> dict[str, Any]:
    sources = [picture.rgb for picture in order.pictures]
    quality: dict[int, float | None] = {}
    for group in inverted.groups:
        quality |= dict(zip(group.indices, reconstruction_psnr(group.autoencoded, group.source), strict=True))
    metrics = pair_metrics(edited, sources)
    metrics["autoencoder_psnr"] = [quality[index] for index in order.of]
    encoder = inverted.model.dual_encoder
    if encoder is not None and order.text_features is not None:
        metrics["source_similarity_to_target"] = similarity(encoder, sources, order.text_features)
        metrics["edit_similarity_to_target"] = similarity(encoder, edited, order.text_features)
    return {
        "reconstruction_latent_max_error": inverted.latent_error,
        "parameters": {
            "method": inverted.method.name,
            **parameters(order.params),
            "strength": order.strengths,
            "prompts": order.prompts,
        },
        "metrics": metrics,
        "inversion": inverted.report,
    }


def _recipes(inverted: "Inverted", order: Order) -> list[dict[str, Any]]:
    return [
        {
            "operation": "edit",
            **inverted.recipe(index),
            **parameters(order.params),
            "strength": order.strengths[j],
            "prompt": order.prompts[j],
            "negative_prompt": order.negative_prompt,
            "masked": order.masks[j] is not None,
            **({} if order.region is None else {"region": asdict(order.region)}),
            "residual": order.residual,
        }
        for j, index in enumerate(order.of)
    ]
