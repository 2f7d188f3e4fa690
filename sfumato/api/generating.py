"""The work behind `Model.generate`."""

from collections.abc import Generator, Mapping, Sequence
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sfumato.api.arguments import spread
from sfumato.api.group import at_once, decoded
from sfumato.api.loaded import Loaded
from sfumato.api.report import made_with, parameters, similarity
from sfumato.api.result import Result
from sfumato.api.run import Progress, following
from sfumato.core.condition import Condition
from sfumato.core.guidance import classifier_free
from sfumato.core.shift import Shift
from sfumato.errors import BadInput
from sfumato.images import to_uint8
from sfumato.methods.generate import GenerateParams, generate
from sfumato.models.checks import check_labels, check_maps, check_tokens
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.models.fingerprint import add_tensor


def generating(
    model: Loaded,
    params: GenerateParams,
    prompts: list[str],
    seeds: list[int],
    shape: tuple[int, int, int],
    negative_prompt: str,
    batch: int | None,
    extra: Condition,
    shifts: Sequence[Shift] = (),
) -> Generator[Progress, None, Result]:
    """Sample as many pictures at a time as go through the network together. Everything has been checked.

    `extra` has one row per picture: maps, labels and tokens, which hold under the negative prompt too.
    """
    network = model.network
    size = shape[1] * network.factor, shape[2] * network.factor
    largest = at_once(shape, batch)
    starts = range(0, len(prompts), largest)
    pixels: list[NDArray[np.uint8]] = []
    for n, first in enumerate(starts):
        texts = prompts[first : first + largest]
        outputs = list(range(first, first + len(texts)))
        some = extra[first : first + largest]
        parts: dict[str, Any] = {"size": size, "maps": some.maps, "labels": some.labels, "tokens": some.tokens}
        negative = network.condition([negative_prompt] * len(texts), **parts) if network.takes_text else None
        work = generate(
            classifier_free(network, negative, [float(params.guidance_scale)] * len(texts)),
            shape,
            network.condition(texts, **parts),
            params,
            seeds=seeds[first : first + largest],
            device=network.device,
            shifts=shifts,
        )
        last = yield from following(work, "generate", n, len(starts), outputs, network, size[::-1])
        pixels += [to_uint8(each) for each in decoded(network, last, size[::-1])]
    report = {
        "parameters": {**parameters(params), "prompts": prompts, "seeds": seeds, "size": list(size[::-1])},
        "metrics": _metrics(model, pixels, prompts),
    }
    recipes = [
        {
            "operation": "generate",
            **made_with(network),
            "prompt": prompt,
            "negative_prompt": negative_prompt,
            "seed": seed,
            "size": list(size[::-1]),
            **parameters(params),
            **_described(extra[row]),
            **({"shifts": [type(shift).__qualname__ for shift in shifts]} if shifts else {}),
        }
        for row, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True))
    ]
    return Result(pixels, [], recipes, report)


def read_extra(network: DiffusionModel, maps: Any, labels: Any, tokens: Any) -> dict[str, Tensor]:
    """What a network takes beside prompts, by its name in `Condition`, with any number of rows.

    Raises:
        BadInput: what the network takes is missing, not wanted or does not fit.
    """
    check_maps(network, maps)
    check_tokens(network, tokens)
    parts = {"maps": maps, "labels": check_labels(network, labels), "tokens": tokens}
    return {name: part for name, part in parts.items() if part is not None}


def extra_condition(parts: Mapping[str, Tensor], rows: int, shape: tuple[int, int, int]) -> Condition:
    """What `read_extra` found, of `rows` pictures whose latents have that shape: one for all or one for each.

    Raises:
        BadInput: another number of them, or maps of another size than the latents.
    """
    if "maps" in parts and parts["maps"].shape[2:] != shape[1:]:
        sizes = " x ".join(map(str, shape[1:])), " x ".join(map(str, parts["maps"].shape[2:]))
        raise BadInput(f"maps must have the height and width of the latents, {sizes[0]}, not {sizes[1]}.")
    each: dict[str, Any] = {
        name: torch.stack(spread(list(part), rows, name.removesuffix("s"))) for name, part in parts.items()
    }
    return Condition(rows=rows, **each)


def _described(extra: Condition) -> dict[str, Any]:
    """What one picture was given beside its prompt, as JSON values: a label, and SHA-256 of what is no number."""
    values = {"maps": extra.maps, "label": extra.labels, "tokens": extra.tokens}
    return {name: _value(name, part) for name, part in values.items() if part is not None}


def _value(name: str, part: Tensor) -> float | str:
    if part.ndim == 1:
        return part.item()
    digest = sha256()
    add_tensor(digest, name, part)
    return digest.hexdigest()


def _metrics(model: Loaded, pixels: list[NDArray[np.uint8]], prompts: list[str]) -> dict[str, Any]:
    encoder, features = model.dual_encoder, model.text_features(prompts)
    if encoder is None or features is None:
        return {}
    return {"similarity": similarity(encoder, pixels, features)}
