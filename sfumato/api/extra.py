"""Inputs of a network in addition to prompts: maps, class labels, and tokens for a network without text encoder.

A condition without prompts holds them, one row per image (`extra_condition`).
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor

from sfumato.api.arguments import spread
from sfumato.core.condition import Condition
from sfumato.errors import BadInput
from sfumato.models.checks import check_labels, check_maps, check_tokens
from sfumato.models.conditioning import with_inputs
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.models.fingerprint import add_tensor


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


def extra_condition(
    network: DiffusionModel, parts: Mapping[str, Tensor], rows: int, sizes: Sequence[tuple[int, int]]
) -> Condition:
    """Return the additional inputs of `rows` images as a condition without prompts, in the precision of the network.

    Args:
        network: the model.
        parts: inputs from `read_extra`, each with one row for all images or one per image.
        rows: number of images.
        sizes: (height, width) of the latents of the images, at least one.

    Raises:
        BadInput: an input has neither one row nor `rows` rows, or the maps do not have the size of all latents.
    """
    if "maps" in parts:
        _check_size(parts["maps"], list(dict.fromkeys(map(tuple, sizes))))
    each = {name: torch.stack(spread(list(part), rows, name.removesuffix("s"))) for name, part in parts.items()}
    return with_inputs(network, Condition(rows=rows), each.get("maps"), each.get("labels"), each.get("tokens"))


def _check_size(maps: Tensor, sizes: Sequence[tuple[int, ...]]) -> None:
    """Raise BadInput if the maps do not have the height and width of the latents, or these have several sizes."""
    named = [" x ".join(map(str, size)) for size in sizes]
    if len(sizes) > 1:
        raise BadInput(
            f"maps are for latents of one height and width, and those of the images have {' and '.join(named)}: give "
            "the images of each size in a call of their own."
        )
    if maps.shape[2:] != sizes[0]:
        given = " x ".join(map(str, maps.shape[2:]))
        raise BadInput(f"maps must have the height and width of the latents, {named[0]}, not {given}.")


def extra_of(network: DiffusionModel, condition: Condition) -> Condition:
    """Return the additional inputs of a condition, without what it contains of the prompts.

    Args:
        network: the model.
        condition: a condition of the model, one row per image.
    """
    tokens = None if network.takes_text else condition.tokens
    return Condition(rows=len(condition), maps=condition.maps, labels=condition.labels, tokens=tokens)


def described_extra(extra: Condition) -> dict[str, Any]:
    """Describe the additional inputs of one image as JSON values: labels as numbers, other tensors by SHA-256.

    Args:
        extra: one row of `extra_condition`.
    """
    values = {"maps": extra.maps, "label": extra.labels, "tokens": extra.tokens}
    return {name: _value(name, part) for name, part in values.items() if part is not None}


def _value(name: str, part: Tensor) -> float | str:
    if part.ndim == 1:
        return part.item()
    digest = sha256()
    add_tensor(digest, name, part)
    return digest.hexdigest()
