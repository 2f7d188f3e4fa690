"""Execution of a planned edit: replay of the inversions batch by batch, decoding, masks and metrics."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sfumato.api.automatic_masks import Found, find
from sfumato.api.bounds import EditRegion, bound, held
from sfumato.api.edit_plan import Batch, EditPlan
from sfumato.api.extra import described_extra
from sfumato.api.finish import add_residual, finished, weights_at
from sfumato.api.group import Group, decoded
from sfumato.api.notes import similarity_note
from sfumato.api.reconstructing import reconstructing
from sfumato.api.report import (
    file_name,
    files_used,
    moves_of,
    pair_metrics,
    parameters,
    recipe_parameters,
    reconstruction_psnr,
    similarity,
)
from sfumato.api.result import Part, Result
from sfumato.api.run import Progress, Run, following
from sfumato.api.sources import Sources
from sfumato.geometry.edit import Moved, with_moves
from sfumato.images import Mask, resized_pixels
from sfumato.metrics.evaluator import SHIPPED


def edit_run(sources: Sources, plan: EditPlan) -> Run[Result]:
    """Return the run of an edit, which yields after every step; see `editing`."""
    parts: list[Part] = []
    return Run(sources.model.network, editing(sources, plan, parts), parts)


def editing(sources: Sources, plan: EditPlan, parts: list[Part]) -> Generator[Progress, None, Result]:
    """Run the edits batch by batch, yielding after every step.

    Args:
        sources: inverted images.
        plan: an edit of these images.
        parts: the images of every batch are appended when the batch is finished.

    Returns:
        The edited images with their recipes and the report.
    """
    if plan.check and sources.latent_error is None:
        yield from reconstructing(sources, residual=False)
    pixels: dict[int, NDArray[np.uint8]] = {}
    recipes: dict[int, dict[str, Any]] = {}
    moves: dict[int, dict[str, Any]] = {}
    bounds: dict[int, EditRegion | None] = {}
    for batch in plan.batches:
        bounds |= _bounds(plan, batch, sources)
    for n, batch in enumerate(plan.batches):
        group, total = sources.groups[batch.group], len(plan.batches)
        job = replace(batch.job, inversion=group.inversion.rows(batch.rows))
        holding = held(group.network, [bounds[j] for j in batch.outputs])
        shifts = batch.shifts
        for each in holding:
            shifts = [shift.with_mask(each.inside) for shift in shifts]
        made: list[Moved] = []
        work = with_moves(job.run([*shifts, *holding]), made)
        x0 = yield from following(work, "edit", n, total, batch.outputs, group.network, group.size, job.steps)
        pixels |= _finished(plan, batch, group, x0, bounds)
        moves |= {j: moves_of(made, row) for row, j in enumerate(batch.outputs)}
        recipes |= {j: _recipe(sources, plan, j) | moves[j] for j in batch.outputs}
        parts.append(Part(batch.outputs, _result(plan, batch.outputs, pixels, recipes, {})))
    every = list(range(len(plan.prompts)))
    report = _report(sources, plan, [pixels[j] for j in every])
    if all(moves.values()):
        report["moves"] = [moves[j]["moves"] for j in every]
    return _result(plan, every, pixels, recipes, report)


def _result(
    plan: EditPlan,
    outputs: Sequence[int],
    pixels: Mapping[int, NDArray[np.uint8]],
    recipes: Mapping[int, dict[str, Any]],
    report: dict[str, Any],
) -> Result:
    """The results with these indices."""
    images = [plan.images[j] for j in outputs]
    return Result([pixels[j] for j in outputs], images, [recipes[j] for j in outputs], report)


def _bounds(plan: EditPlan, batch: Batch, sources: Sources) -> dict[int, EditRegion | None]:
    """The masks of the edits of a batch, by index of the result."""
    group = sources.groups[batch.group]
    found: Sequence[Found | None] = [None] * len(batch.outputs)
    if plan.region is not None:
        texts = [plan.prompts[j] for j in batch.outputs]
        found = find(plan.region, group, batch.rows, batch.job.target, texts, sources.batch)
    return {
        j: bound(group.network, plan.masks[j], own, plan.region, group.size)
        for j, own in zip(batch.outputs, found, strict=True)
    }


def _finished(
    plan: EditPlan, batch: Batch, group: Group, x0: Tensor, bounds: Mapping[int, EditRegion | None]
) -> dict[int, NDArray[np.uint8]]:
    """The decoded edits of a batch by index of the result, uint8 [h,w,3]."""
    edited = decoded(group.network, x0, group.size)
    if plan.residual:
        source, autoencoded = group.source[batch.rows], group.autoencoded[batch.rows]
        edited = add_residual(edited, autoencoded, source, float(max(1, group.network.factor)))
    masks = [None if (each := bounds[j]) is None else each.mask for j in batch.outputs]
    edited = plan.composition.finish(edited, group.source[batch.rows], weights_at(masks, group.size))
    return {
        j: finished(pixels, group.source[row], group.images[row], mask)
        for j, row, pixels, mask in zip(batch.outputs, batch.rows, edited, masks, strict=True)
    }


def _report(sources: Sources, plan: EditPlan, edited: list[NDArray[np.uint8]]) -> dict[str, Any]:
    sized = [sources.edited_images[index] for index in plan.of]  # metrics are computed at the size of the edit
    pixels = [image.rgb for image in sized]
    edited = [resized_pixels(each, image.size) for each, image in zip(edited, sized, strict=True)]
    quality: dict[int, float | None] = {}
    for group in sources.groups:
        quality |= dict(zip(group.indices, reconstruction_psnr(group.autoencoded, group.source), strict=True))
    metrics = pair_metrics(edited, pixels)
    metrics["autoencoder_psnr"] = [quality[index] for index in plan.of]
    encoder = sources.model.dual_encoder
    if encoder is not None and plan.source_features is not None:
        metrics["source_similarity_to_source"] = similarity(encoder, pixels, plan.source_features)
    has_target = plan.prompts != [sources.prompts[index] for index in plan.of]
    if encoder is not None and plan.text_features is not None and has_target:
        metrics["source_similarity_to_target"] = similarity(encoder, pixels, plan.text_features)
        metrics["edit_similarity_to_target"] = similarity(encoder, edited, plan.text_features)
    return {
        "reconstruction_latent_max_error": sources.latent_error,
        "parameters": {
            "method": sources.method.name,
            **parameters(plan.composition.params),
            "methods": plan.composition.described(),
            "guidance_scale": plan.guidance_scales,
            "prompts": plan.prompts,
        },
        "metrics": metrics,
        "notes": [
            *sources.model.too_long([*sources.prompts, *plan.prompts]),
            *_unknown(sources, plan, metrics.get("source_similarity_to_source", [])),
            *_unused(sources, plan),
        ],
        "inversion": sources.report,
    }


def _unknown(sources: Sources, plan: EditPlan, similarities: list[float]) -> list[str]:
    """Notes on images that differ from the training images of the bundled dual encoder."""
    if sources.model.folder is None or sources.model.folder / "dual_encoder" != SHIPPED:
        return []
    known = zip(plan.images, similarities, strict=False)
    return list(dict.fromkeys(note for image, value in known if (note := similarity_note(image.name, value))))


def _unused(sources: Sources, plan: EditPlan) -> list[str]:
    """Notes of the methods on prompts and options that had no effect."""
    pairs = [(sources.prompts[index], target) for index, target in zip(plan.of, plan.prompts, strict=True)]
    return plan.composition.notes(pairs)


def _recipe(sources: Sources, plan: EditPlan, j: int) -> dict[str, Any]:
    """The recipe of the result with index `j`, without the moves of its latent."""
    return {
        "operation": "edit",
        **sources.recipe(plan.of[j]),
        **recipe_parameters(plan.compositions[j].params),
        "methods": plan.compositions[j].described(recipe_parameters),
        **files_used(*(params for _, params in plan.composition.methods)),
        "guidance_scale": plan.guidance_scales[j],
        "prompt": plan.prompts[j],
        **described_extra(plan.extra[j]),
        "negative_prompt": plan.negative_prompt,
        "masked": plan.masks[j] is not None or plan.region is not None,
        **_mask_used(plan.masks[j]),
        **({} if plan.region is None else {"region": asdict(plan.region)}),
        "residual": plan.residual,
    }


def _mask_used(mask: Mask | None) -> dict[str, Any]:
    """Name and hash of the user's mask for the recipe; {} without a mask file."""
    return {"mask": {"name": file_name(mask.name), "sha256": mask.sha256}} if mask is not None and mask.sha256 else {}
