"""The work behind `Model.invert`."""

from collections.abc import Generator
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from sfumato.api.group import Group, encode, guided, of_one_size, padded_size, picture_fingerprint
from sfumato.api.inverted import Inverted
from sfumato.api.report import parameters
from sfumato.api.run import Progress, following
from sfumato.images import Picture
from sfumato.inversion import Inversion
from sfumato.methods.params import Params
from sfumato.methods.registry import Method

if TYPE_CHECKING:
    from sfumato.api.model import Model


def inverting(
    model: "Model",
    method: Method,
    params: Params,
    pictures: list[Picture],
    prompts: list[str],
    seeds: list[int],
    batch: int | None,
) -> Generator[Progress, None, Inverted]:
    """Invert group after group, yielding after every step. Everything has been checked."""
    network = model.network
    plan = list(of_one_size(network, pictures, batch))
    groups: list[Group] = []
    for n, indices in enumerate(plan):
        some = [pictures[i] for i in indices]
        size = padded_size(network, some[0].size)
        condition = network.condition([prompts[i] for i in indices], size=size)
        strength = getattr(params, "source_strength", 1.0)
        work = method.invert(
            guided(network, [strength] * len(indices), size),
            encode(network, some),
            condition,
            params,
            seeds=[seeds[i] for i in indices],
            batch=batch,
        )
        inversion = yield from following(work, "invert", n, len(plan), indices, network, some[0].size)
        inversion = _described(inversion, method, params, some, [prompts[i] for i in indices])
        groups.append(Group(network, indices, some, inversion, condition))
    report = {
        "parameters": {"method": method.name, **parameters(params), "seeds": seeds, "source_prompts": prompts},
        "pictures": [{"name": p.name, "size": list(p.size), "note": p.note} for p in pictures],
    }
    return Inverted(model, method, params, groups, report, batch)


def _described(
    inversion: Inversion, method: Method, params: Params, pictures: list[Picture], prompts: list[str]
) -> Inversion:
    """What the latents alone do not say, for the file."""
    return replace(
        inversion,
        prompts=tuple(prompts),
        parameters={"method": method.name, **parameters(params)},
        images=tuple(picture_fingerprint(picture) for picture in pictures),
        pixels=torch.stack([torch.from_numpy(picture.rgb.copy()) for picture in pictures]),
    )
