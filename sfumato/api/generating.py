"""The work behind `Model.generate`."""

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sfumato.api.group import at_once, decoded, guided
from sfumato.api.report import made_with, parameters, similarity
from sfumato.api.result import Result
from sfumato.api.run import Progress, following
from sfumato.images import to_uint8
from sfumato.methods.generate import GenerateParams, generate

if TYPE_CHECKING:
    from sfumato.api.model import Model


def generating(
    model: "Model",
    params: GenerateParams,
    prompts: list[str],
    seeds: list[int],
    shape: tuple[int, int, int],
    negative_prompt: str,
    batch: int | None,
) -> Generator[Progress, None, Result]:
    """Sample as many pictures at a time as go through the network together. Everything has been checked."""
    network = model.network
    size = shape[1] * network.factor, shape[2] * network.factor
    largest = at_once(shape, batch)
    starts = range(0, len(prompts), largest)
    pixels: list[NDArray[np.uint8]] = []
    for n, first in enumerate(starts):
        texts = prompts[first : first + largest]
        outputs = list(range(first, first + len(texts)))
        work = generate(
            guided(network, [params.strength] * len(texts), size, negative_prompt),
            shape,
            network.condition(texts, size=size),
            params,
            seeds=seeds[first : first + largest],
            device=network.device,
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
        }
        for prompt, seed in zip(prompts, seeds, strict=True)
    ]
    return Result(pixels, [], recipes, report)


def _metrics(model: "Model", pixels: list[NDArray[np.uint8]], prompts: list[str]) -> dict[str, Any]:
    encoder, features = model.dual_encoder, model.text_features(prompts)
    if encoder is None or features is None:
        return {}
    return {"similarity": similarity(encoder, pixels, features)}
