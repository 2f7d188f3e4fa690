"""Implementation of `Model.generate`."""

from collections.abc import Generator, Mapping
from dataclasses import replace
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor

from sfumato.api.arguments import spread
from sfumato.api.composition import Composition
from sfumato.api.generation_plan import job_of
from sfumato.api.group import at_once, decoded
from sfumato.api.loaded import Loaded
from sfumato.api.report import files_used, made_with, parameters, recipe_parameters, similarity
from sfumato.api.result import Part, Result
from sfumato.api.run import Progress, following
from sfumato.core.condition import Condition
from sfumato.core.guidance import classifier_free
from sfumato.errors import BadInput
from sfumato.images import to_uint8
from sfumato.methods.generate import GenerateParams, generate, recorded
from sfumato.methods.job import FROM_NOISE, REFERENCE
from sfumato.models.checks import check_labels, check_maps, check_tokens
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.models.fingerprint import add_tensor
from sfumato.models.with_source import WithSource


def generating(
    model: Loaded,
    params: GenerateParams,
    prompts: list[str],
    seeds: list[int],
    shape: tuple[int, int, int],
    negative_prompt: str,
    batch: int | None,
    extra: Condition,
    composition: Composition,
    parts: list[Part],
) -> Generator[Progress, None, Result]:
    """Generate images batch by batch, yielding after every step. All arguments have been checked.

    If a method compares with a reference (`Params.needs_reference`), a run of every batch without methods precedes.

    Args:
        model: the model.
        params: parameters of the run.
        prompts: one per image.
        seeds: one per image.
        shape: shape (c, h, w) of one latent.
        negative_prompt: the negative prompt of classifier-free guidance.
        batch: maximum number of rows per forward pass; None for the default.
        extra: maps, labels and tokens, one row per image; also used for the prediction under the negative prompt.
        composition: methods and shifts.
        parts: the images of every batch are appended when the batch is finished.

    Returns:
        The images with their recipes and the report.
    """
    network = model.network
    size = shape[1] * network.factor, shape[2] * network.factor
    largest = at_once(shape, batch)
    encoder, features = model.dual_encoder, model.text_features(prompts)
    starts = range(0, len(prompts), largest)
    described = composition.described(recipe_parameters)
    files = files_used(*(params for _, params in composition.methods))
    for n, first in enumerate(starts):
        texts = prompts[first : first + largest]
        outputs = list(range(first, first + len(texts)))
        some = extra[first : first + largest]
        inputs: dict[str, Any] = {"size": size, "maps": some.maps, "labels": some.labels, "tokens": some.tokens}
        negative = network.condition([negative_prompt] * len(texts), **inputs) if network.takes_text else None
        guided = classifier_free(network, negative, [float(params.guidance_scale)] * len(texts))
        condition, own = network.condition(texts, **inputs), seeds[first : first + largest]
        reference: dict[int, Tensor] = {}
        with_reference = replace(guided, network=WithSource(network, reference, condition))
        kind = REFERENCE if composition.needs_reference else FROM_NOISE
        job = job_of(with_reference, shape, condition, params, own, composition.path(params.steps), kind)
        shifts = composition.of(job)
        if composition.needs_reference:
            plain = recorded(generate(guided, shape, condition, params, seeds=own, device=network.device))
            reference |= yield from following(plain, "reference", n, len(starts), outputs, network, size[::-1])
        work = generate(
            with_reference, shape, condition, params,
            seeds=own, device=network.device, shifts=shifts, path=job.path,
        )  # fmt: skip
        last = yield from following(work, "generate", n, len(starts), outputs, network, size[::-1], job.steps)
        images = [to_uint8(each) for each in composition.finish(decoded(network, last, size[::-1]), None)]
        recipes = [
            {
                "operation": "generate",
                **made_with(network),
                "prompt": prompts[row],
                "negative_prompt": negative_prompt,
                "seed": seeds[row],
                "size": list(size[::-1]),
                **parameters(params),
                **_described(extra[row]),
                **({"methods": described} if described else {}),
                **files,
            }
            for row in outputs
        ]
        parts.append(Part(outputs, Result(images, [], recipes, {})))
    pixels = [each for part in parts for each in part.result.pixels]
    report = {
        "parameters": {**parameters(params), "prompts": prompts, "seeds": seeds, "size": list(size[::-1])},
        "metrics": {} if encoder is None or features is None else {"similarity": similarity(encoder, pixels, features)},
        "notes": model.too_long(prompts) + composition.notes([("", prompt) for prompt in prompts]),
    }
    return Result(pixels, [], [each for part in parts for each in part.result.recipes], report)


def read_extra(network: DiffusionModel, maps: Any, labels: Any, tokens: Any) -> dict[str, Tensor]:
    """Check the inputs of a network in addition to prompts and return them by their name in `Condition`.

    Raises:
        BadInput: an input that the network requires is missing, or an input is not supported by the network or has the
            wrong shape.
    """
    check_maps(network, maps)
    check_tokens(network, tokens)
    parts = {"maps": maps, "labels": check_labels(network, labels), "tokens": tokens}
    return {name: part for name, part in parts.items() if part is not None}


def extra_condition(parts: Mapping[str, Tensor], rows: int, shape: tuple[int, int, int]) -> Condition:
    """Return the additional inputs of `rows` images as a condition without prompts.

    Args:
        parts: inputs from `read_extra`, each with one row for all images or one per image.
        rows: number of images.
        shape: shape (c, h, w) of one latent.

    Raises:
        BadInput: an input has neither one row nor `rows` rows, or the maps do not have the size of the latents.
    """
    if "maps" in parts and parts["maps"].shape[2:] != shape[1:]:
        sizes = " x ".join(map(str, shape[1:])), " x ".join(map(str, parts["maps"].shape[2:]))
        raise BadInput(f"maps must have the height and width of the latents, {sizes[0]}, not {sizes[1]}.")
    each: dict[str, Any] = {
        name: torch.stack(spread(list(part), rows, name.removesuffix("s"))) for name, part in parts.items()
    }
    return Condition(rows=rows, **each)


def _described(extra: Condition) -> dict[str, Any]:
    """Additional inputs of one image as JSON values: labels as numbers, other tensors as SHA-256 digests."""
    values = {"maps": extra.maps, "label": extra.labels, "tokens": extra.tokens}
    return {name: _value(name, part) for name, part in values.items() if part is not None}


def _value(name: str, part: Tensor) -> float | str:
    if part.ndim == 1:
        return part.item()
    digest = sha256()
    add_tensor(digest, name, part)
    return digest.hexdigest()
