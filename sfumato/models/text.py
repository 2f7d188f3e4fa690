"""From prompts to the tokens that cross-attention reads, as diffusers' pipelines do it."""

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
    """A tokenizer and the CLIP text encoder that it belongs to."""

    tokenizer: Any
    encoder: Any

    @property
    def context(self) -> int:
        """The number of tokens of every prompt, start and end included."""
        return min(int(self.tokenizer.model_max_length), int(self.encoder.config.max_position_embeddings))

    @property
    def problem(self) -> str:
        """Why the tokenizer cannot be the encoder's, as a clause; "" where it can."""
        return vocabulary_problem(self.tokenizer, self.encoder.get_input_embeddings().num_embeddings)

    def tokenize(self, prompts: Sequence[str]) -> tuple[Int[Tensor, "b n"], Int[Tensor, "b n"]]:
        """Token ids and attention mask, padded to the context.

        Raises:
            BadInput: a prompt has more tokens than the context; nothing is cut off silently.
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
        """The prompt's tokens and words. Raises BadInput for a text with half a character."""
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
    """Tokens for cross-attention, and the pooled vector where there are two text encoders.

    Stable Diffusion 1.x and 2.x: the last hidden state of the one text encoder, normalised. SDXL: the last but one
    hidden states of both text encoders side by side, and the projection of the second.

    Args:
        text_encoders: one or two.
        prompts: what to encode.
        empty_is_zero: with two text encoders, give zeros for the empty prompt.
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
    """The words of the prompts and the places of their tokens.

    Nothing where two text encoders split a prompt into different tokens (SDXL's CLIP-L and bigG share one vocabulary
    and agree): cross-attention reads both side by side, and a word would have two places.
    """
    first, *others = ([each.read(prompt) for prompt in prompts] for each in text_encoders)
    agree = all([p.ids for p in other] == [p.ids for p in first] for other in others)
    return tuple(first) if agree else ()
