"""A checked edit: its batches, with the shifts of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sfumato.api.arguments import as_list, check_negative, check_prompts, spread
from sfumato.api.automatic_masks import check_region
from sfumato.api.composing import compose
from sfumato.api.composition import Composition
from sfumato.api.extra import extra_condition, read_extra
from sfumato.api.group import at_once, padded_size
from sfumato.api.named import Named
from sfumato.api.region_arguments import Region, region
from sfumato.api.sources import Sources
from sfumato.core.condition import Condition
from sfumato.core.shift import Shift
from sfumato.editing.job import Job
from sfumato.errors import BadInput
from sfumato.images import LoadedImage, Mask
from sfumato.images.mask import painted_mask
from sfumato.models.tiles import TiledModel


@dataclass(frozen=True, eq=False)
class Batch:
    """Edits that are computed in one batch.

    Attributes:
        group: index of the group of images.
        rows: row of the image in the group, per edit.
        outputs: index of the result, per edit.
        job: input of the methods; its inversion may be planned only, with latents on the device "meta".
        shifts: shifts of the methods and of the caller; those of masks are added when the edit is run.
    """

    group: int
    rows: list[int]
    outputs: list[int]
    job: Job
    shifts: list[Shift]


@dataclass(frozen=True, eq=False)
class EditPlan:
    """One checked edit of one or more images.

    Attributes:
        compositions: the methods with their parameters, per result; they differ in the guidance scale only.
        batches: the edits in batches.
        of: index of the source image, per result.
        images: source image, per result.
        prompts: target prompt, per result; the source prompt if none was given.
        extra: maps, labels and tokens (`sfumato.api.extra`), one row per result; those of the source if none were
            given.
        guidance_scales: guidance scale, per result.
        masks: painted mask, per result, or None.
        region: words or difference of prompts that restrict the edit further, or None.
        residual: whether to add back the reconstruction error of the autoencoder, see `finish.add_residual`.
        check: whether to replay the source first and measure the reconstruction error.
        negative_prompt: the negative prompt of classifier-free guidance.
        text_features: features of the target prompts by the model's dual encoder, for the report; None without one or
            if a prompt is too long for it.
        source_features: the same of the source prompts; also None if one of them is empty.
    """

    compositions: list[Composition]
    batches: list[Batch]
    of: list[int]
    images: list[LoadedImage]
    prompts: list[str]
    extra: Condition
    guidance_scales: list[float]
    masks: list[Mask | None]
    region: Region | None
    residual: bool
    check: bool
    negative_prompt: str
    text_features: Tensor | None
    source_features: Tensor | None

    @property
    def composition(self) -> Composition:
        """The methods, with the parameters of the first result."""
        return self.compositions[0]


def plan_edit(
    sources: Sources,
    prompts: Any,
    *,
    maps: Tensor | None = None,
    labels: Any = None,
    tokens: Tensor | None = None,
    methods: str | Sequence[Named] | None = None,
    shifts: Sequence[Shift] = (),
    guidance_scale: float | Sequence[float] | None = None,
    mask: Any = None,
    mask_words: str = "",
    mask_difference: bool = False,
    mask_threshold: float | None = None,
    residual: bool = True,
    check: bool = False,
    negative_prompt: str = "",
    options: Mapping[str, Any],
) -> EditPlan:
    """Check and plan an edit of images whose inversion is computed or planned.

    The arguments are those of `Inverted.edit_steps`.

    Raises:
        BadInput: an argument is invalid; the message gives the allowed values.
    """
    network = sources.model.network
    guidance_scales, masks, texts = (
        _listed(values, name)
        for values, name in ((guidance_scale, "guidance scale"), (mask, "mask"), (as_list(prompts), "target prompt"))
    )
    own = sources.extra
    parts = read_extra(
        network,
        own.maps if maps is None else maps,
        own.labels if labels is None else labels,
        own.tokens if tokens is None else tokens,
    )
    given = (texts, guidance_scales, masks, *parts.values())
    wanted = max(map(len, given)) if len(sources) == 1 else len(sources)
    found = region(mask_words, mask_difference, mask_threshold)
    compositions = [
        compose(network, sources.kind, sources.method, sources.params, methods, shifts, {**options, **each})
        for each in [{"guidance_scale": each} for each in guidance_scales] or [{}]
    ]
    composition = compositions[0]
    texts = check_prompts(network, texts, "target prompt", empty=composition.keeps_prompt)
    befores = spread(sources.prompts, wanted, "image")
    pairs = zip(spread(texts, wanted, "target prompt"), befores, strict=True)
    texts = [text if text.strip() else before for text, before in pairs]
    sizes = [(group.inversion.x.shape[-2], group.inversion.x.shape[-1]) for group in sources.groups]
    extra = extra_condition(network, parts, wanted, sizes)
    composition.check_run(network, sizes, befores, texts)
    if found is not None and isinstance(network, TiledModel):
        raise BadInput("mask_words and mask_difference are not for edits in tiles: give a mask instead.")
    if found is not None:
        check_region(network, found, befores, texts)
    scales = spread(guidance_scales or [getattr(composition.params, "guidance_scale", 1.0)], wanted, "guidance_scale")
    check_negative(network, composition.uses_negative, negative_prompt, scales)
    images = spread(sources.images, wanted, "image")
    bounds = zip(spread(masks or [None], wanted, "mask"), images, strict=True)
    return EditPlan(
        masks=[None if each is None else painted_mask(each, image.size) for each, image in bounds],
        region=found,
        batches=_batches(sources, composition, texts, scales, negative_prompt, extra),
        of=spread(list(range(len(sources))), wanted, "image"),
        images=images,
        prompts=texts,
        extra=extra,
        guidance_scales=scales,
        compositions=spread(compositions, wanted, "guidance_scale"),
        residual=residual,
        check=check,
        negative_prompt=negative_prompt,
        text_features=sources.model.text_features(texts),
        source_features=sources.model.text_features(befores) if all(text.strip() for text in befores) else None,
    )


def _listed(values: Any, name: str) -> list[Any]:
    """Convert an argument to a list; None to []. Raises BadInput for an empty list."""
    found = [] if values is None else as_list(values)
    if values is not None and not found:
        raise BadInput(f"The list of {name}s is empty: give at least one {name}, or leave the argument out.")
    return found


def _batches(
    sources: Sources,
    composition: Composition,
    prompts: Sequence[str],
    scales: Sequence[float],
    negative_prompt: str,
    extra: Condition,
) -> list[Batch]:
    """Split the edits into batches, group by group, and encode their prompts.

    A run under the source prompt (`Composition.under_source`) also has the maps, labels and tokens of the edit, and so
    has the negative prediction of its guidance.

    Raises:
        BadInput: as `Composition.of`.
    """
    network = sources.model.network
    of = spread(list(range(len(sources))), len(prompts), "image")
    found = []
    for n, group in enumerate(sources.groups):
        row = {index: row for row, index in enumerate(group.indices)}
        outputs = [j for j, index in enumerate(of) if index in row]
        largest = at_once(group.inversion.x0.shape, sources.batch)
        size = padded_size(network, group.size)
        for first in range(0, len(outputs), largest):
            some = outputs[first : first + largest]
            rows = [row[of[j]] for j in some]
            source, own = group.condition[rows], extra[some]
            target = sources.model.condition([prompts[j] for j in some], size, own)
            job = Job(
                sources.model.guided([scales[j] for j in some], size, negative_prompt, own),
                group.inversion.rows(rows),
                source,
                target,
                sources.model.with_extra(source, own) if composition.under_source else target,
                composition.skip,
                bool(getattr(sources.params, "exact", False)),
                composition.path(len(group.inversion.timesteps) - composition.skip),
            )
            found.append(Batch(n, rows, some, job, composition.of(job)))
    return found
