"""Planning and execution of inversions. A planned inversion has all data except latents and noise maps."""

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch

from sfumato.api.group import Group, encode, of_one_size, padded_size
from sfumato.api.loaded import Loaded
from sfumato.api.notes import size_note
from sfumato.api.reading import reading
from sfumato.api.report import file_name, parameters
from sfumato.api.resolution import Resolution, chosen
from sfumato.api.run import Progress, following
from sfumato.api.sources import Sources
from sfumato.core.condition import Condition
from sfumato.editing.registry import Method
from sfumato.images import LoadedImage
from sfumato.images.loaded_image import image_fingerprint
from sfumato.inversion import Inversion
from sfumato.inversion.registry import INVERSIONS, InversionKind
from sfumato.models.tiles import TiledModel
from sfumato.options.params import Params

Planned = TypeVar("Planned", bound=Sources)


def kind_of(method: Method, params: Params) -> InversionKind:
    """Return the inversion that the parameters select (`Method.inversion_of`)."""
    return INVERSIONS.find(method.inversion_of(params))


def outlines(
    model: Loaded,
    method: Method,
    params: Params,
    images: Sequence[LoadedImage],
    prompts: Sequence[str],
    seeds: Sequence[int],
    batch: int | None,
    resolution: Resolution = None,
    extra: Condition | None = None,
) -> list[Group]:
    """Group the images by size and plan their inversions, with latents on the device "meta".

    All arguments have been checked. The prompts are encoded here. `extra` contains the maps, labels and tokens of the
    images (`sfumato.api.extra`), one row per image.
    """
    network, kind = model.network, kind_of(method, params)
    params.check_inversion(network)
    more: dict[str, Any] = {"tiles": True} if isinstance(network, TiledModel) else {}
    more |= {"resolution_default": True} if resolution is None else {}
    more |= {} if batch is None else {"batch": batch}
    groups = []
    for indices in of_one_size(network, images, batch):
        some, texts = [images[i] for i in indices], [prompts[i] for i in indices]
        size, at = padded_size(network, some[0].size), chosen(network, resolution, some[0].full.size)
        timesteps = network.schedule.timesteps(params.steps)  # type: ignore[attr-defined]
        inversion = Inversion(
            kind.name,
            torch.empty(len(timesteps) + 1, len(some), *network.latent_shape(*size), device="meta"),
            None,
            tuple(timesteps),
            getattr(params, "eta", 0.0),
            (float(getattr(params, "source_guidance_scale", 1.0)),) * len(some),
            tuple(seeds[i] for i in indices),
            tuple(texts),
            {"method": method.name, "resolution": at, **more, **reading(network), **parameters(params)},
        )
        condition = model.condition(texts, size, None if extra is None else extra[indices])
        groups.append(Group(network, indices, some, inversion, condition))
    return groups


def inverting(sources: Planned) -> Generator[Progress, None, Planned]:
    """Run planned inversions group by group, yielding after every step; return `sources` with the results."""
    network, kind = sources.model.network, kind_of(sources.method, sources.params)
    groups: list[Group] = []
    for n, group in enumerate(sources.groups):
        outline, x0 = group.inversion, encode(network, group.images)
        size = padded_size(network, group.size)
        guided = sources.model.guided(outline.guidance_scales, size, extra=group.extra)
        guided, condition = sources.params.inverted_under(network, guided, group.condition, x0)
        work = kind.invert(
            guided,
            x0,
            condition,
            sources.params,
            seeds=outline.seeds,
            batch=sources.batch,
        )
        found = yield from following(work, "invert", n, len(sources.groups), group.indices, network, group.size)
        described = replace(
            found,
            guidance_scales=outline.guidance_scales,
            prompts=outline.prompts,
            parameters=outline.parameters,
            images=tuple(image_fingerprint(image) for image in group.images),
            names=tuple(file_name(image.name) for image in group.images),
            pixels=torch.stack([torch.from_numpy(image.full.rgb.copy()) for image in group.images]),
        )
        groups.append(replace(group, inversion=described, maps={}))
    seeds = {i: seed for group in groups for i, seed in zip(group.indices, group.inversion.seeds, strict=True)}
    report = {
        "parameters": {
            "method": sources.method.name,
            **parameters(sources.params),
            "seeds": [seeds[i] for i in range(len(sources))],
            "source_prompts": sources.prompts,
        },
        "images": [
            {
                "name": each.name,
                "size": list(each.full.size),
                "edited_size": list(each.size),
                "note": "; ".join(filter(None, (each.note, size_note(network, each.name, each.full.size, each.size)))),
            }
            for each in sources.edited_images
        ],
    }
    return replace(sources, groups=groups, report=report, errors={})
