"""Encode prompts to the tokens of cross-attention, as the pipelines of diffusers do."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sfumato.core.prompt import Prompt
from sfumato.errors import BadInput
from sfumato.text_files import check_text
from sfumato.vocabulary import vocabulary_problem


@dataclass(frozen=True, eq=False)
class TextEncoder:
    """A CLIP text encoder and its tokenizer."""

    tokenizer: Any
    encoder: Any

    @property
    def context(self) -> int:
        """Context length: number of tokens of a prompt, start, end and padding included."""
        return min(int(self.tokenizer.model_max_length), int(self.encoder.config.max_position_embeddings))

    @property
    def problem(self) -> str:
        """Why the tokenizer does not fit the encoder, as a clause; "" if it fits."""
        return vocabulary_problem(self.tokenizer, self.encoder.get_input_embeddings().num_embeddings)

    def tokenize(self, prompts: Sequence[str]) -> tuple[Int[Tensor, "b n"], Int[Tensor, "b n"]]:
        """Token ids and attention mask, padded to the context length.

        Raises:
            BadInput: a prompt has more tokens than the context length; prompts are never truncated.
        """
        for prompt in prompts:
            check_text(prompt, "The prompt")
            length = len(self.tokenizer(prompt, verbose=False).input_ids)
            if length > self.context:
                raise BadInput(
                    f"The prompt has {length - 2} tokens but this model reads at most {self.context - 2}; "
                    f'shorten "{prompt[:40]}...".'
                )
        batch = self.tokenizer(list(prompts), padding="max_length", max_length=self.context, return_tensors="pt")
        device = self.encoder.device
        return batch.input_ids.to(device), batch.attention_mask.to(device)

    def read(self, prompt: str) -> Prompt:
        """Tokens and words of a prompt. Raises BadInput for a text with a lone surrogate (half a character)."""
        check_text(prompt, "The prompt")
        encoded = self.tokenizer(prompt, return_offsets_mapping=True, verbose=False)
        ids, special = encoded.input_ids, set(self.tokenizer.all_special_ids)
        places: dict[int, list[int]] = {}
        for position, word in enumerate(encoded.word_ids()):
            if word is not None and ids[position] not in special:
                places.setdefault(word, []).append(position)
        spans = encoded.offset_mapping
        words = tuple(prompt[spans[each[0]][0] : spans[each[-1]][1]] for each in places.values())
        return Prompt(prompt, tuple(ids), words, tuple(tuple(each) for each in places.values()))


def encode(
    text_encoders: Sequence[TextEncoder], prompts: Sequence[str], *, empty_is_zero: bool
) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b p"] | None]:
    """Encode prompts: tokens for cross-attention, and the pooled vector if there are two text encoders.

    Stable Diffusion 1.x and 2.x: the last hidden state of the text encoder, after its final layer norm. SDXL: the
    penultimate hidden states of both text encoders, concatenated along the width, and the projected pooled output of
    the second encoder.

    Args:
        text_encoders: one or two.
        prompts: the prompts to encode.
        empty_is_zero: with two text encoders, return zeros for the empty prompt.
    """
    if len(text_encoders) == 1:
        ids, mask = text_encoders[0].tokenize(prompts)
        masked = getattr(text_encoders[0].encoder.config, "use_attention_mask", False)
        return text_encoders[0].encoder(ids, attention_mask=mask if masked else None)[0], None
    encoded = [each.encoder(each.tokenize(prompts)[0], output_hidden_states=True) for each in text_encoders]
    tokens, pooled = torch.cat([each.hidden_states[-2] for each in encoded], dim=-1), encoded[-1].text_embeds
    if empty_is_zero:
        empty = torch.tensor([not prompt for prompt in prompts], device=tokens.device)
        tokens, pooled = tokens.masked_fill(empty[:, None, None], 0.0), pooled.masked_fill(empty[:, None], 0.0)
    return tokens, pooled


def read(text_encoders: Sequence[TextEncoder], prompts: Sequence[str]) -> tuple[Prompt, ...]:
    """The words of the prompts with their token positions.

    Returns () if two text encoders split a prompt into different tokens. Their tokens are concatenated along the width,
    so that a word would have two positions. SDXL's CLIP-L and bigG use the same vocabulary and always agree.
    """
    first, *others = ([each.read(prompt) for prompt in prompts] for each in text_encoders)
    agree = all([p.ids for p in other] == [p.ids for p in first] for other in others)
    return tuple(first) if agree else ()
