"""Encode prompts to the embeddings for cross-attention (`tokens`), as the pipelines of diffusers do."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sfumato.models.prompt_weights import Phrase
from sfumato.models.text import TextEncoder

_OLD_END = 2
"""eos_token_id in old CLIP configurations, which may differ from the id of the tokenizer's end token."""


def encode(
    text_encoders: Sequence[TextEncoder], prompts: Sequence[str], *, empty_is_zero: bool
) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b p"] | None]:
    """Encode prompts to embeddings for cross-attention, and pooled embeddings if there are two text encoders.

    Stable Diffusion 1.x and 2.x: the last hidden state of the text encoder, after its final layer norm. SDXL: the
    penultimate hidden states of both text encoders, concatenated along the feature dimension, and the projected pooled
    output of the second encoder for the first chunk.

    Args:
        text_encoders: one or two text encoders.
        prompts: the prompts to encode.
        empty_is_zero: with two text encoders, return zeros for the empty prompt.

    Returns:
        Embeddings [b,n,d] with n = chunks * context, and pooled embeddings [b,p] or None.
    """
    encoded = [_encode(each, prompts, several=len(text_encoders) > 1) for each in text_encoders]
    if len(encoded) == 1:
        return encoded[0]
    tokens, pooled = torch.cat([each for each, _ in encoded], dim=-1), encoded[-1][1]
    assert pooled is not None
    if empty_is_zero:
        empty = torch.tensor([not prompt for prompt in prompts], device=tokens.device)
        tokens, pooled = tokens.masked_fill(empty[:, None, None], 0.0), pooled.masked_fill(empty[:, None], 0.0)
    return tokens, pooled


def _encode(text: TextEncoder, prompts: Sequence[str], *, several: bool) -> tuple[Tensor, Tensor | None]:
    """Embeddings of one text encoder, and its pooled embeddings if there are several encoders."""
    ids, mask = text.tokenize(prompts)
    masked = getattr(text.encoder.config, "use_attention_mask", False)
    tokens, pooled = _states(text, ids, mask if masked else None, several)
    tokens = _joined(tokens, text)
    pooled = None if pooled is None else pooled.unflatten(0, (-1, text.chunks))[:, 0]
    found = [text.weights(prompt) for prompt in prompts] if text.weighted else []
    if any(bool((weights != 1).any()) for weights, _ in found):
        tokens = _weighted(text, tokens, ids, mask if masked else None, found, several)
    return tokens, pooled


def _weighted(
    text: TextEncoder,
    tokens: Float[Tensor, "b n d"],
    ids: Int[Tensor, "rows n"],
    mask: Int[Tensor, "rows n"] | None,
    found: Sequence[tuple[Float[Tensor, " n"], list[tuple[Phrase, Int[Tensor, " n"]]]]],
    several: bool,
) -> Float[Tensor, "b n d"]:
    """Apply the weights of the prompts to the embeddings, equation 2 of `sfumato.models.prompt_weights`."""
    empty_ids, empty_mask = text.tokenize([""])
    empty = _joined(_states(text, empty_ids, None if mask is None else empty_mask, several)[0], text)[0]
    rows = ids.unflatten(0, (-1, text.chunks))
    masks = (torch.ones_like(ids) if mask is None else mask).unflatten(0, (-1, text.chunks))
    weighted = []
    for row, (weights, light) in enumerate(found):
        scale = weights.to(tokens.device)[:, None]
        each = [_scaled(tokens[row], empty, scale)]
        for _, where in light:
            kept = masks[row] * (1 - where.to(masks).unflatten(0, (text.chunks, -1)))
            without = _joined(_states(text, rows[row], kept, several)[0], text)[0]
            each.append(_scaled(without, empty, scale))
        shares = [1.0, *(phrase.share for phrase, _ in light)]
        parts = [state * (share / sum(shares)) for state, share in zip(each, shares, strict=True)]
        weighted.append(torch.stack(parts).sum(dim=0).to(tokens))
    return torch.stack(weighted)


def _scaled(z: Float[Tensor, "n d"], e: Float[Tensor, "n d"], w: Float[Tensor, "n 1"]) -> Float[Tensor, "n d"]:
    """Equation 1 of `sfumato.models.prompt_weights`, in float32 at least; tokens of weight 1 are unchanged."""
    precision = torch.promote_types(z.dtype, torch.float32)
    z, e = z.to(precision), e.to(precision)
    return torch.where(w == 1, z, e + w.to(precision) * (z - e))


def _states(text: TextEncoder, ids: Tensor, mask: Tensor | None, several: bool) -> tuple[Tensor, Tensor | None]:
    """The hidden states that the U-Net reads, one row per chunk, and pooled vectors."""
    if not several:
        return text.encoder(ids, attention_mask=mask)[0], None
    found = text.encoder(ids, attention_mask=mask, output_hidden_states=True)
    return found.hidden_states[-2], _pooled(text, ids, found)


def _pooled(text: TextEncoder, ids: Int[Tensor, "b n"], found: Any) -> Tensor | None:
    """The projected hidden state at the first end token of every row; None for an encoder without projection.

    For old configurations (eos_token_id 2) transformers pools at the token with the largest id, which may be a word
    added by textual inversion instead of the end token; the state is therefore selected here.
    """
    pooled = getattr(found, "text_embeds", None)
    if pooled is None or getattr(text.encoder.config, "eos_token_id", None) != _OLD_END:
        return pooled
    end = (ids == text.tokenizer.eos_token_id).int().argmax(dim=-1)
    states: Tensor = text.encoder.text_projection(
        found.last_hidden_state[torch.arange(len(ids), device=ids.device), end]
    )
    return states


def _joined(tokens: Float[Tensor, "chunks n d"], text: TextEncoder) -> Float[Tensor, "b n d"]:
    """Concatenate the chunks of every prompt."""
    return tokens.unflatten(0, (-1, text.chunks)).flatten(1, 2)
