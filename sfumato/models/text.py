"""Encode prompts to the tokens of cross-attention, as the pipelines of diffusers do."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, pairwise, takewhile
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sfumato.core.prompt import Prompt
from sfumato.errors import BadInput
from sfumato.models.offload import computes_on
from sfumato.models.prompt_weights import Phrase, Weighted, parse
from sfumato.text_files import check_text
from sfumato.vocabulary import vocabulary_problem

MOST_CHUNKS = 20
"""Largest number of chunks of a prompt."""


@dataclass(frozen=True, eq=False)
class TextEncoder:
    """A CLIP text encoder and its tokenizer.

    Attributes:
        tokenizer: splits prompts into tokens.
        encoder: the network.
        weighted: whether "(word:1.4)" in a prompt is a weight (`sfumato.models.prompt_weights`), not text.
        chunks: a prompt is read in this number of chunks of `context` tokens, which are encoded independently and
            concatenated, so that it may be that many times longer; unused chunks are those of the empty prompt.
    """

    tokenizer: Any
    encoder: Any
    weighted: bool = False
    chunks: int = 1

    @property
    def context(self) -> int:
        """Context length: number of tokens of a chunk, start, end and padding included."""
        return min(int(self.tokenizer.model_max_length), int(self.encoder.config.max_position_embeddings))

    @property
    def problem(self) -> str:
        """Why the tokenizer does not fit the encoder, as a clause; "" if it fits."""
        return vocabulary_problem(self.tokenizer, self.encoder.get_input_embeddings().num_embeddings)

    def tokenize(self, prompts: Sequence[str]) -> tuple[Int[Tensor, "b n"], Int[Tensor, "b n"]]:
        """Token ids and attention mask, padded to the context length; one row per chunk of every prompt.

        Raises:
            BadInput: a prompt has more tokens than fit; prompts are never truncated.
        """
        rows = [row for prompt in prompts for row in self._rows(prompt)]
        ids = torch.full((len(rows), self.context), self.tokenizer.pad_token_id)
        mask = torch.zeros_like(ids)
        for n, row in enumerate(rows):
            where = slice(None, len(row)) if self.tokenizer.padding_side == "right" else slice(-len(row), None)
            ids[n, where], mask[n, where] = torch.tensor(row), 1
        device = computes_on(self.encoder)
        return ids.to(device), mask.to(device)

    def plain(self, prompt: str) -> str:
        """The prompt without weights, if it may have any."""
        return self._parsed(prompt).text

    def read(self, prompt: str) -> Prompt:
        """Tokens and words of a prompt. Raises BadInput for a text with an unpaired surrogate."""
        text = self._text(prompt).text
        encoded = self.tokenizer(text, return_offsets_mapping=True, verbose=False)
        ids, special = encoded.input_ids, set(self.tokenizer.all_special_ids)
        places: dict[int, list[int]] = {}
        for position, word in enumerate(encoded.word_ids()):
            if word is not None and ids[position] not in special:
                places.setdefault(word, []).append(position)
        spans, further = encoded.offset_mapping, {each for rest in self._vectors().values() for each in rest}
        words: list[tuple[str, list[int]]] = []
        for each in places.values():
            word = text[spans[each[0]][0] : spans[each[-1]][1]]
            if word in further and words:
                words[-1][1].extend(each)
            else:
                words.append((word, list(each)))
        found = tuple(tuple(self._place(position) for position in each) for _, each in words)
        return Prompt(prompt, self._of_all_chunks(ids), tuple(word for word, _ in words), found)

    def weights(self, prompt: str) -> tuple[Float[Tensor, " n"], list[tuple[Phrase, Int[Tensor, " n"]]]]:
        """Weights of the tokens of all chunks, and the phrases of a weight below 1 with masks of their tokens."""
        weighted = self._text(prompt)
        spans = self.tokenizer(weighted.text, return_offsets_mapping=True, verbose=False).offset_mapping
        weights = torch.ones(self.chunks * self.context)
        light = [(phrase, torch.zeros(len(weights), dtype=torch.long)) for phrase in weighted.phrases if phrase.share]
        for position, (start, stop) in list(enumerate(spans))[1:-1]:
            weights[self._place(position)] = weighted.weight_at(start)
            for phrase, mask in light:
                mask[self._place(position)] = int(start < stop and phrase.start <= start < phrase.stop)
        return weights, light

    def _rows(self, prompt: str) -> list[list[int]]:
        """The tokens of every chunk, with start and end, without padding."""
        ids = self.tokenizer(self._text(prompt).text, verbose=False).input_ids
        inner, size = ids[1:-1], self.context - 2
        if len(inner) > size * self.chunks:
            needed = -(-len(inner) // size)
            more = f" or read it in {needed} chunks (prompt_chunks={needed})" if needed <= MOST_CHUNKS else ""
            raise BadInput(
                f"The prompt has {len(inner)} tokens but this model reads at most {size * self.chunks}; "
                f'shorten "{prompt[:40]}..."{more}.'
            )
        return [[ids[0], *inner[k * size : (k + 1) * size], ids[-1]] for k in range(self.chunks)]

    def _place(self, position: int) -> int:
        """Where a token of the text, counted with the start, stands among the tokens of all chunks."""
        chunk, inside = divmod(position - 1, self.context - 2)
        return chunk * self.context + inside + 1

    def _of_all_chunks(self, ids: Sequence[int]) -> tuple[int, ...]:
        """The ids of all chunks up to the last end; the chunks before it are full."""
        size, rows = self.context - 2, []
        for first in range(1, len(ids) - 1, size):
            rows += [ids[0], *ids[1:-1][first - 1 : first - 1 + size], ids[-1]]
        return tuple(rows or ids)

    def _parsed(self, prompt: str) -> Weighted:
        return parse(prompt) if self.weighted else Weighted(prompt, ())

    def _text(self, prompt: str) -> Weighted:
        """The prompt without weights and with all tokens of textual inversions."""
        check_text(prompt, "The prompt")
        weighted = self._parsed(prompt)
        vectors = self._vectors()
        if not any(word in weighted.text for word in vectors):
            return weighted
        return _with_vectors(weighted, vectors)

    def _vectors(self) -> dict[str, list[str]]:
        """Words of textual inversions with several vectors: the tokens of the second and further ones, by the first.

        diffusers stores the vectors of "<cat>" as the tokens "<cat>", "<cat>_1", "<cat>_2".
        """
        added = self.tokenizer.added_tokens_encoder
        return {word: list(_numbered(word, added)) for word in added if f"{word}_1" in added}


def _numbered(word: str, tokens: Mapping[str, int]) -> Iterator[str]:
    """ "WORD_1", "WORD_2", ... as far as they are tokens."""
    return takewhile(tokens.__contains__, (f"{word}_{n}" for n in count(1)))


def _with_vectors(weighted: Weighted, vectors: Mapping[str, Sequence[str]]) -> Weighted:
    """Write out the tokens of words with several vectors: "<cat>" becomes "<cat> <cat>_1 <cat>_2"."""
    cuts = sorted({0, len(weighted.text), *(end for each in weighted.phrases for end in (each.start, each.stop))})
    text, moved = "", {0: 0}
    for start, stop in pairwise(cuts):
        part = weighted.text[start:stop]
        for word, further in vectors.items():
            part = part.replace(word, " ".join([word, *further]))
        text += part
        moved[stop] = len(text)
    phrases = tuple(Phrase(moved[each.start], moved[each.stop], each.weight) for each in weighted.phrases)
    return Weighted(text, phrases)


def encode(
    text_encoders: Sequence[TextEncoder], prompts: Sequence[str], *, empty_is_zero: bool
) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b p"] | None]:
    """Encode prompts: tokens for cross-attention, and the pooled vector if there are two text encoders.

    Stable Diffusion 1.x and 2.x: the last hidden state of the text encoder, after its final layer norm. SDXL: the
    penultimate hidden states of both text encoders, concatenated along the width, and the projected pooled output of
    the second encoder, of the first chunk.

    Args:
        text_encoders: one or two.
        prompts: the prompts to encode.
        empty_is_zero: with two text encoders, return zeros for the empty prompt.
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
    """Tokens of one text encoder, and its pooled vectors if there are several."""
    ids, mask = text.tokenize(prompts)
    masked = getattr(text.encoder.config, "use_attention_mask", False)
    tokens, pooled = _states(text, ids, mask if masked else None, several)
    tokens = _joined(tokens, text)
    pooled = None if pooled is None else pooled.unflatten(0, (-1, text.chunks))[:, 0]
    found = [text.weights(prompt) for prompt in prompts] if text.weighted else []
    if not any(bool((weights != 1).any()) for weights, _ in found):
        return tokens, pooled
    empty_ids, empty_mask = text.tokenize([""])
    empty = _joined(_states(text, empty_ids, empty_mask if masked else None, several)[0], text)[0]
    rows = ids.unflatten(0, (-1, text.chunks))
    masks = (mask if masked else torch.ones_like(ids)).unflatten(0, (-1, text.chunks))
    weighted = []
    for row, (weights, light) in enumerate(found):
        scale = weights.to(tokens)[:, None]
        total, sum_of_shares = empty + scale * (tokens[row] - empty), 1.0
        for phrase, where in light:
            kept = masks[row] * (1 - where.to(mask).unflatten(0, (text.chunks, -1)))
            without = _joined(_states(text, rows[row], kept, several)[0], text)[0]
            total = total + phrase.share * (empty + scale * (without - empty))
            sum_of_shares += phrase.share
        weighted.append(total / sum_of_shares)
    return torch.stack(weighted), pooled


def _states(text: TextEncoder, ids: Tensor, mask: Tensor | None, several: bool) -> tuple[Tensor, Tensor | None]:
    """The hidden states that the U-Net reads, one row per chunk, and pooled vectors."""
    if not several:
        return text.encoder(ids, attention_mask=mask)[0], None
    found = text.encoder(ids, attention_mask=mask, output_hidden_states=True)
    return found.hidden_states[-2], getattr(found, "text_embeds", None)


def _joined(tokens: Float[Tensor, "chunks n d"], text: TextEncoder) -> Float[Tensor, "b n d"]:
    """Concatenate the chunks of every prompt."""
    return tokens.unflatten(0, (-1, text.chunks)).flatten(1, 2)


def read(text_encoders: Sequence[TextEncoder], prompts: Sequence[str]) -> tuple[Prompt, ...]:
    """The words of the prompts with their token positions.

    Returns () if two text encoders split a prompt into different tokens. Their tokens are concatenated along the width,
    so that a word would have two positions. SDXL's CLIP-L and bigG use the same vocabulary and always agree.
    """
    first, *others = ([each.read(prompt) for prompt in prompts] for each in text_encoders)
    agree = all([p.ids for p in other] == [p.ids for p in first] for other in others)
    return tuple(first) if agree else ()
