"""Build the condition of a network from prompts, concatenated maps, class labels and embeddings."""

from collections.abc import Sequence
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
    rows, place, precision = len(texts), network.device, network.dtype
    check_maps(network, maps, rows)
    check_labels(network, given, rows)
    check_tokens(network, tokens, rows)
    parts: dict[str, Any] = {
        "maps": None if maps is None else maps.to(place, precision),
        "labels": None if given is None else given.to(place),
    }
    if not network.takes_text:
        if any(texts):
            raise BadInput(f"The model {network.name} has no text input: leave the prompt empty.")
        return Condition(tokens=None if tokens is None else tokens.to(place, precision), rows=rows, **parts)
    encoded, pooled = encode(network.text_encoders, texts, empty_is_zero=network.empty_prompt_is_zero)
    if pooled is not None:
        parts |= {"pooled": pooled.to(precision), "added": _size_ids(network, size or network.native_size, rows)}
    return Condition(tokens=encoded.to(precision), prompts=read(network.text_encoders, texts), **parts)


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
