"""Prompts as tokens of CLIP: their ids, words and weights."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, takewhile
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
        chunks: number of chunks of `context` tokens into which a prompt is split. Chunks are encoded independently and
            concatenated, so a prompt may be that many times longer; unused chunks contain the empty prompt.
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
            BadInput: a prompt has more tokens than fit (prompts are never truncated), or a weight that cannot be read
                or begins or ends inside a token.
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
        """The prompt without its weights; unchanged unless `weighted`."""
        return self._parsed(prompt).text

    def read(self, prompt: str) -> Prompt:
        """Tokens and words of a prompt. Raises BadInput for a text with an unpaired surrogate."""
        text = self._text(prompt).text
        tokens, special = self._tokens(text), set(self.tokenizer.all_special_ids)
        places: dict[int, list[int]] = {}
        for position, token in enumerate(tokens):
            if token.word is not None and token.id not in special:
                places.setdefault(token.word, []).append(position)
        words = tuple(text[tokens[each[0]].start : tokens[each[-1]].stop] for each in places.values())
        found = tuple(tuple(self._place(position) for position in each) for each in places.values())
        return Prompt(prompt, self._of_all_chunks([token.id for token in tokens]), words, found, text, self.chunks)

    def weights(self, prompt: str) -> tuple[Float[Tensor, " n"], list[tuple[Phrase, Int[Tensor, " n"]]]]:
        """Weights of the tokens of all chunks, and the phrases with a weight below 1 with masks of their tokens."""
        weighted = self._text(prompt)
        weights = torch.ones(self.chunks * self.context)
        light = [(phrase, torch.zeros(len(weights), dtype=torch.long)) for phrase in weighted.phrases if phrase.share]
        for position, token in list(enumerate(self._tokens(weighted.text)))[1:-1]:
            weights[self._place(position)] = weighted.weight_at(token.start)
            for phrase, mask in light:
                inside = token.start < token.stop and phrase.start <= token.start < phrase.stop
                mask[self._place(position)] = int(inside)
        return weights, light

    def _rows(self, prompt: str) -> list[list[int]]:
        """The tokens of every chunk, with start and end, without padding."""
        weighted = self._text(prompt)
        tokens = self._tokens(weighted.text)
        ids, size = [token.id for token in tokens], self.context - 2
        inner = ids[1:-1]
        if len(inner) > size * self.chunks:
            needed = -(-len(inner) // size)
            flag = f"--prompt-chunks {needed} (in Python: prompt_chunks={needed})"
            more = f", or read it in {needed} chunks with {flag}" if needed <= MOST_CHUNKS else ""
            raise BadInput(
                f"The prompt has {len(inner)} tokens but this model reads at most {size * self.chunks}; "
                f'shorten "{prompt[:40]}..."{more}.'
            )
        weighted.check_borders([(token.start, token.stop) for token in tokens])
        return [[ids[0], *inner[k * size : (k + 1) * size], ids[-1]] for k in range(self.chunks)]

    def _place(self, position: int) -> int:
        """Convert the index of a token in [start, text tokens, end] to its index in the concatenated chunks."""
        chunk, inside = divmod(position - 1, self.context - 2)
        return chunk * self.context + inside + 1

    def _of_all_chunks(self, ids: Sequence[int]) -> tuple[int, ...]:
        """Token ids of the concatenated chunks, up to the end token of the last chunk that contains text."""
        size, rows = self.context - 2, []
        for first in range(1, len(ids) - 1, size):
            rows += [ids[0], *ids[1:-1][first - 1 : first - 1 + size], ids[-1]]
        return tuple(rows or ids)

    def _parsed(self, prompt: str) -> Weighted:
        return parse(prompt) if self.weighted else Weighted(prompt, ())

    def _text(self, prompt: str) -> Weighted:
        """The prompt without weights. Raises BadInput for a text with an unpaired surrogate."""
        check_text(prompt, "The prompt")
        return self._parsed(prompt)

    def _tokens(self, text: str) -> list["_Token"]:
        """The tokens of a text, with start and end; a word of a textual inversion has one for each of its vectors."""
        encoded, further = self.tokenizer(text, return_offsets_mapping=True, verbose=False), self._vectors()
        found = zip(encoded.input_ids, encoded.offset_mapping, encoded.word_ids(), strict=True)
        return [
            _Token(each, *_without_space(text, start, stop), word)
            for first, (start, stop), word in found
            for each in (first, *further.get(first, ()))
        ]

    def _vectors(self) -> dict[int, list[int]]:
        """Ids of the second and further vectors of textual inversions, by the id of the first.

        diffusers stores the vectors of "<cat>" as the tokens "<cat>", "<cat>_1", "<cat>_2".
        """
        added = self.tokenizer.added_tokens_encoder
        return {added[word]: list(_numbered(word, added)) for word in added if f"{word}_1" in added}


@dataclass(frozen=True)
class _Token:
    """A token of a text: its id, characters `start` to `stop`, and the index of its word, None for start and end."""

    id: int
    start: int
    stop: int
    word: int | None


def _without_space(text: str, start: int, stop: int) -> tuple[int, int]:
    """The characters of a token without the white space around them, which added tokens may include."""
    inner = text[start:stop]
    return (start + len(inner) - len(inner.lstrip()), start + len(inner.rstrip())) if inner.strip() else (start, stop)


def _numbered(word: str, tokens: Mapping[str, int]) -> Iterator[int]:
    """The ids of "WORD_1", "WORD_2", ... as far as they are tokens."""
    return map(tokens.__getitem__, takewhile(tokens.__contains__, (f"{word}_{n}" for n in count(1))))


def read(text_encoders: Sequence[TextEncoder], prompts: Sequence[str]) -> tuple[Prompt, ...]:
    """The words of the prompts with their token positions.

    Returns () if two text encoders split a prompt into different tokens: their embeddings are concatenated along the
    feature dimension, so a word would have two positions. SDXL's CLIP-L and bigG have the same vocabulary.
    """
    first, *others = ([each.read(prompt) for prompt in prompts] for each in text_encoders)
    agree = all([p.ids for p in other] == [p.ids for p in first] for other in others)
    return tuple(first) if agree else ()
