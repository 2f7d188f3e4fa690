"""Build the condition of a network from prompts, concatenated maps, class labels and embeddings."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from sfumato.core.condition import Condition
from sfumato.errors import BadInput
from sfumato.models.checks import Expectations, check_labels, check_maps, check_tokens
from sfumato.models.text import TextEncoder, read
from sfumato.models.text_encoding import encode


class Conditioned(Expectations, Protocol):
    """Further properties of a model on which its conditions depend."""

    empty_prompt_is_zero: bool

    @property
    def text_encoders(self) -> tuple[TextEncoder, ...]:
        """The text encoders with their tokenizers."""

    @property
    def device(self) -> torch.device:
        """Device of the network."""

    @property
    def native_size(self) -> tuple[int, int]:
        """Height and width in pixels of the training images."""


def build_condition(
    network: Conditioned,
    prompts: str | Sequence[str],
    *,
    size: tuple[int, int] | None = None,
    maps: Tensor | None = None,
    labels: Any = None,
    tokens: Tensor | None = None,
) -> Condition:
    """Build a condition; see `DiffusionModel.condition` for the arguments.

    Raises:
        BadInput: there is no prompt, a prompt is too long or the model has no text encoder; or maps, labels or tokens
            are missing, not expected or do not fit.
    """
    given = check_labels(network, labels)
    texts = _texts(prompts, (maps, given, tokens))
    rows = len(texts)
    check_maps(network, maps, rows)
    check_labels(network, given, rows)
    check_tokens(network, tokens, rows)
    return with_inputs(network, text_condition(network, texts, size=size), maps, given, tokens)


def text_condition(network: Conditioned, prompts: Sequence[str], *, size: tuple[int, int] | None = None) -> Condition:
    """Build a condition of prompts only; see `DiffusionModel.text_condition`.

    Raises:
        BadInput: a prompt is too long, or is not empty and the model has no text encoder.
    """
    rows, precision = len(prompts), network.dtype
    if not network.takes_text:
        if any(prompts):
            raise BadInput(f"The model {network.name} has no text input: leave the prompt empty.")
        return Condition(rows=rows)
    encoded, pooled = encode(network.text_encoders, prompts, empty_is_zero=network.empty_prompt_is_zero)
    parts: dict[str, Any] = {}
    if pooled is not None:
        parts = {"pooled": pooled.to(precision), "added": _size_ids(network, size or network.native_size, rows)}
    return Condition(tokens=encoded.to(precision), prompts=read(network.text_encoders, prompts), **parts)


def with_inputs(
    network: Conditioned, condition: Condition, maps: Tensor | None, labels: Tensor | None, tokens: Tensor | None
) -> Condition:
    """Return a condition with checked maps, labels and tokens, on the device and in the precision of the network.

    Args:
        network: the model.
        condition: a condition, one row per image.
        maps: [rows,c,h,w]; None to keep those of the condition, as for the others.
        labels: [rows] or [rows,d].
        tokens: [rows,n,d].
    """
    place, precision = network.device, network.dtype
    given = {
        "maps": None if maps is None else maps.to(place, precision),
        "labels": None if labels is None else labels.to(place),
        "tokens": None if tokens is None else tokens.to(place, precision),
    }
    parts: dict[str, Any] = {name: part for name, part in given.items() if part is not None}
    return replace(condition, **parts) if parts else condition


def _texts(prompts: str | Sequence[str], parts: Sequence[Any]) -> list[str]:
    """One prompt per row; a single prompt is repeated for the rows of maps, labels or tokens.

    Raises:
        BadInput: the list is empty, or an entry is not text.
    """
    if isinstance(prompts, str):
        return [prompts] * max([1, *(len(part) for part in parts if isinstance(part, Tensor) and part.ndim)])
    texts = list(prompts or ())
    if not texts or not all(isinstance(prompt, str) for prompt in texts):
        raise BadInput("Give a prompt, or a list of prompts with one per image.")
    return texts


def _size_ids(network: Conditioned, size: tuple[int, int], rows: int) -> Tensor:
    """SDXL's time_ids (h, w, top, left, h, w) of an uncropped image of that size."""
    height, width = size
    ids = torch.tensor([height, width, 0, 0, height, width], device=network.device, dtype=network.dtype)
    return ids.repeat(rows, 1)


def token_widths(unet: nn.Module) -> set[int]:
    """Dimensions of the text embeddings that the cross-attention layers take; empty without cross-attention."""
    layers = (module for module in unet.modules() if isinstance(module, Attention) and module.is_cross_attention)
    return {int(layer.added_kv_proj_dim or layer.cross_attention_dim) for layer in layers}
